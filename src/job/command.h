/*
 * job/command.h
 *		Commands: what jobs do outside of the database.
 */
#pragma once

extern void command_init(void);
