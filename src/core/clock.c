/*
 * core/clock.c
 *		What time it is, unless a test says otherwise.
 */
#include "postgres.h"

#include "core/clock.h"
#include "core/compat.h"

#include "access/xact.h"
#include "utils/timestamp.h"

static TimestampTz test_time;
static bool test_time_is_set = false;

TimestampTz
clock_now(void)
{
	return test_time_is_set ? test_time : GetCurrentTransactionStartTimestamp();
}

TimestampTz
clock_wall(void)
{
	return test_time_is_set ? test_time : GetCurrentTimestamp();
}

int64
clock_unix_milliseconds(TimestampTz time)
{
	return (time + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) / 1000;
}

/* A check hook must not raise and timestamptz_in() does, so its steps are taken one by one. */
bool
clock_check_setting(char **value, void **extra, GucSource source)
{
	char buffer[MAXDATELEN + 1];
	char *field[MAXDATEFIELDS];
	int field_type[MAXDATEFIELDS];
	int field_count;
	int kind;
	int zone;
	struct pg_tm tm;
	fsec_t fsec;
	TimestampTz result;

	if (**value == '\0')
		return true;

	if (ParseDateTime(*value, buffer, sizeof(buffer), field, field_type, MAXDATEFIELDS,
					  &field_count) != 0 ||
		compat_decode_datetime(field, field_type, field_count, &kind, &tm, &fsec, &zone) != 0 ||
		kind != DTK_DATE || tm2timestamp(&tm, fsec, &zone, &result) != 0)
	{
		GUC_check_errdetail("A timestamp with time zone is expected, such as "
							"\"2026-02-01 00:00:00+00\".");
		return false;
	}

	*extra = compat_guc_malloc(sizeof(TimestampTz));
	if (*extra == NULL)
		return false;
	*(TimestampTz *) *extra = result;
	return true;
}

void
clock_assign_setting(const char *value, void *extra)
{
	test_time_is_set = extra != NULL;
	if (test_time_is_set)
		test_time = *(TimestampTz *) extra;
}
