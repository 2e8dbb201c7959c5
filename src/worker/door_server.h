/*
 * worker/door_server.h
 *		What the library pg_tenancy_door offers to the worker at the door.
 *
 * It is a library of its own so that no session carries an HTTP server.  The worker loads it and
 * asks it for its table of functions by the symbol "tenancy_door_server".  It has no threads of
 * its own: all happens within run(), and what it calls back must not raise.
 */
#pragma once

#include "postgres.h"

#include "observe/door_state.h"

typedef struct DoorCallbacks
{
	/* The status for a question for a domain: 200, 403 or 503. */
	int (*ask)(const char *domain, size_t length);
	/* A request was answered. */
	void (*answered)(DoorPage page, int status);
} DoorCallbacks;

typedef struct DoorServer
{
	/* Serve on a socket that listens, which is closed with it; false where that fails. */
	bool (*open)(int listener, const DoorCallbacks *callbacks);
	void (*close)(void);
	/* Readable when there is something to do. */
	int (*event_fd)(void);
	/* Do it; in how many milliseconds to come again at the latest. */
	int (*run)(void);
	/* The text of a page from now on, which is copied; NULL for none, and it is 503. */
	void (*publish)(DoorPage page, int status, const char *text, size_t length);
	/* How many connections are open, and have been ended for being too slow. */
	unsigned (*open_count)(void);
	uint64 (*cut_off_count)(void);
} DoorServer;

typedef const DoorServer *(*DoorServerFunction)(void);
