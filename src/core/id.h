/*
 * core/id.h
 *		Identifiers: time-ordered uuids and their base32 names.
 */
#pragma once

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* 128 bits, five a letter. */
#define ID_NAME_LENGTH 26

/*
 * A new UUIDv7 (RFC 9562, 5.7), palloc'd: milliseconds and their fraction, then random bits.
 * Those of a process ascend.
 */
extern pg_uuid_t *id_new(void);

/* The first UUIDv7 of a time: what was made before has a lower one. */
extern pg_uuid_t id_first_at(TimestampTz time);

/* The uuid in lower-case base32 (RFC 4648, no padding) behind a prefix of one letter: "t_abc…". */
extern char *id_name(char prefix, const pg_uuid_t *id);

/* The uuid that such a name stands for; false where it is none. */
extern bool id_of_name(char prefix, const char *name, pg_uuid_t *id);

extern char *id_text(const pg_uuid_t *id);
extern pg_uuid_t *id_parse(const char *text);
static inline bool
id_equal(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a, b, UUID_LEN) == 0;
}

extern bool id_is_nil(const pg_uuid_t *id);

/* Would uuid_in() take the text?  Never raises. */
extern bool id_is_shaped(const char *text);
