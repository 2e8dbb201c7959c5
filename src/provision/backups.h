/*
 * provision/backups.h
 *		The component "backups".
 */
#pragma once

#include "provision/provision.h"

extern const JsonRule backups_members[];

extern Jsonb *backups_prepare(ProvisionRequest *request);
extern Progress backups_await(Provision *row, bool is_check, Jsonb **evidence);
extern void backups_release(const Provision *row);
