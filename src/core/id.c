/*
 * core/id.c
 *		Identifiers: time-ordered uuids and their base32 names.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/function.h"
#include "core/id.h"

#include <ctype.h>

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* The bits after the milliseconds hold their fraction (RFC 9562, 6.2, method 3). */
#define STEPS_PER_MILLISECOND 4096

/* Of base32 (RFC 4648), in lower case. */
static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

/* Steps since 1970, of 1/4096 of a millisecond, over the random bits, or zeros, of an id. */
static void
stamp(pg_uuid_t *id, uint64 steps)
{
	uint64 milliseconds = steps / STEPS_PER_MILLISECOND;
	uint64 fraction = steps % STEPS_PER_MILLISECOND;

	for (int i = 0; i < 6; i++)
		id->data[i] = (unsigned char) (milliseconds >> (8 * (5 - i)));
	id->data[6] = 0x70 | (fraction >> 8); /* version 7 */
	id->data[7] = fraction & 0xff;
	id->data[8] = (id->data[8] & 0x3f) | 0x80; /* variant of RFC 9562 */
}

pg_uuid_t *
id_new(void)
{
	static uint64 last_steps = 0;
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));
	TimestampTz now = GetCurrentTimestamp();
	uint64 fraction = now % 1000 * STEPS_PER_MILLISECOND / 1000;

	if (!pg_strong_random(id->data, UUID_LEN))
		ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values"));
	/* A process never goes back: its ids are in the order in which they were made. */
	last_steps =
		Max(clock_unix_milliseconds(now) * STEPS_PER_MILLISECOND + fraction, last_steps + 1);
	stamp(id, last_steps);
	return id;
}

pg_uuid_t
id_first_at(TimestampTz time)
{
	pg_uuid_t id = {{0}};

	stamp(&id, clock_unix_milliseconds(time) * STEPS_PER_MILLISECOND);
	return id;
}

char *
id_name(char prefix, const pg_uuid_t *id)
{
	char *name = palloc(2 + ID_NAME_LENGTH + 1);
	char *out = name;
	uint32 buffer = 0;
	int bits = 0;

	*out++ = prefix;
	*out++ = '_';
	for (int i = 0; i < UUID_LEN; i++)
	{
		buffer = (buffer << 8) | id->data[i];
		for (bits += 8; bits >= 5; bits -= 5)
			*out++ = alphabet[(buffer >> (bits - 5)) & 31];
	}
	*out++ = alphabet[(buffer << (5 - bits)) & 31];
	*out = '\0';
	return name;
}

bool
id_of_name(char prefix, const char *name, pg_uuid_t *id)
{
	uint32 buffer = 0;
	int bits = 0;
	int count = 0;

	if (strlen(name) != 2 + ID_NAME_LENGTH || name[0] != prefix || name[1] != '_')
		return false;
	for (const char *letter = name + 2; *letter != '\0'; letter++)
	{
		const char *found = strchr(alphabet, *letter);

		if (found == NULL)
			return false;
		buffer = (buffer << 5) | (uint32) (found - alphabet);
		bits += 5;
		if (bits >= 8 && count < UUID_LEN)
			id->data[count++] = (buffer >> (bits -= 8)) & 0xff;
	}
	return true;
}

char *
id_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

pg_uuid_t *
id_parse(const char *text)
{
	return DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
}

bool
id_is_nil(const pg_uuid_t *id)
{
	static const pg_uuid_t nil = {{0}};

	return id_equal(id, &nil);
}

/* 32 hexadecimal digits, a hyphen allowed behind each four, braces around it all. */
bool
id_is_shaped(const char *text)
{
	int digits = 0;
	bool braced = *text == '{';

	for (text += braced; *text && *text != '}'; text++)
	{
		if (isxdigit((unsigned char) *text))
			digits++;
		else if (*text != '-' || digits == 0 || digits % 4 != 0)
			return false;
	}
	return digits == 2 * UUID_LEN && strcmp(text, braced ? "}" : "") == 0;
}

/* tenancy.id_new() → uuid */
TENANCY_FUNCTION(id_new)
{
	PG_RETURN_UUID_P(id_new());
}
