/*
 * worker/restore.h
 *		What sessions of pg_restore, or that run what pg_dump wrote, are to workers.
 */
#pragma once

#include "postgres.h"

#include "nodes/nodes.h"

/* This session makes the extension; it has committed, which never raises. */
extern void restore_note_extension(void);
extern void restore_begin(void);

/*
 * Around a statement of a client: what the first gave is for the second, if there was no error, which
 * gives it back by itself.
 */
extern int restore_before_statement(Node *statement);
extern void restore_after_statement(int settings_level);
