/*
 * core/address.h
 *		Which addresses deliveries may go to.
 */
#pragma once

#include "postgres.h"

#include "utils/guc.h"

#include <sys/socket.h>

/* Is it one that the public Internet can reach (RFC 6890 and its registries)? */
extern bool address_is_public(const struct sockaddr *address);

/* Is it in tenancy.webhook_allowed_networks? */
extern bool address_is_allowed(const struct sockaddr *address);

/* The check hook of that setting. */
extern bool address_check_networks(char **value, void **extra, GucSource source);
