/*
 * context/leave.h
 *		What a tenant could leave behind for the next client of a pooled connection.
 */
#pragma once

#include "postgres.h"

/*
 * Within an entered context: a session setting may change; a statement was prepared; an
 * object was created, perhaps a temporary one.
 */
extern void leave_note_settings(void);
extern void leave_note_created(Oid class_id, Oid object_id);
extern void leave_note_prepared(const char *name);

/* A transaction that entered a tenant: before its commit (may raise), and at its end (never does).
 */
extern void leave_before_commit(void);
extern void leave_at_end(void);
