/* The end of the install script: runs after every floor. */
