/*
 * hook/hook.h
 *		Every hook pointer of PostgreSQL that the extension takes.
 */
#pragma once

/* Take the hooks, chaining those that are there; in the postmaster, from _PG_init. */
extern void hooks_install(void);
