/* The head of the install script: runs before any floor. */
\echo Use "CREATE EXTENSION pg_tenancy" to load this file. \quit

