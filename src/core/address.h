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

/* Of tenancy.http_listen: 127.0.0.1:port, or the path of a Unix-domain socket. */
extern bool address_check_listen(char **value, void **extra, GucSource source);

/* That as an address; its length, or 0 for what is none. */
extern int address_read_listen(const char *text, struct sockaddr_storage *address);
