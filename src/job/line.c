/*
 * job/line.c
 *		Places in the line of jobs: who is next, fairly.
 *
 * Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with jobs of one size: the
 * line's time is the place of the last job that was claimed; a tenant's next job stands behind
 * the tenant's last one, and not before the line's time.  Ranks are given once, when a job
 * becomes ready, so that claiming is a walk along one index.  A tenant with 100,000 jobs has
 * 100,000 places, and another's first job comes right after the one that runs.
 *
 * What is remembered is in shared memory and no more than a hint: it is not rolled back, and
 * after a restart tenants begin at the line's time, which is the first rank in the table.
 *
 * Lock rules.  Those of shmem/table.h; one entry at a time.
 */
#include "postgres.h"

#include "catalog/gate.h"
#include "core/settings.h"
#include "job/line.h"
#include "shmem/table.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"

typedef struct LineKey
{
	Oid database;
	uint32 is_tenant; /* an entry of a tenant, or of the lane itself */
	uint64 lane;      /* hash of its name */
	pg_uuid_t tenant; /* zeros for none */
} LineKey;

typedef struct LineEntry
{
	LineKey key;
	int64 place;              /* of the tenant's last job; or the line's time */
	int64 last_rank;          /* of the lane: claimed so far */
	bool is_known;            /* is last_rank that of all, also of what was claimed before? */
	bool is_set;              /* has the lane's time been read from the table? */
	TimestampTz next_turn_at; /* of the lane */
} LineEntry;

static int
line_capacity(void)
{
	return setting_max_tenants;
}

static SharedTable lines = {
	.name = "pg_tenancy job lines",
	.key_size = sizeof(LineKey),
	.entry_size = sizeof(LineEntry),
	.capacity = line_capacity,
};

GATE_LATEST(line_first_rank,
			"SELECT j.rank, j.priority FROM tenancy.job_pending j"
			" WHERE j.lane = $1 AND j.state = 'ready' ORDER BY j.rank LIMIT 1",
			TEXTOID);

void
line_init(void)
{
	shared_table_register(&lines);
}

static LineKey
lane_key(const char *lane)
{
	LineKey key = {0};

	key.database = MyDatabaseId;
	key.lane = hash_bytes_extended((const unsigned char *) lane, strlen(lane), 0);
	return key;
}

/* The entry of a lane, locked; NULL, and nothing locked, where there is no room. */
static LineEntry *
lock_lane(const char *lane, LWLock **lock)
{
	LineKey key = lane_key(lane);
	LineEntry *entry = shared_table_find(&lines, &key, LW_EXCLUSIVE, lock);
	GateRows *rows;
	int64 first = 0;

	if (entry != NULL)
		return entry;
	rows = gate_run(&line_first_rank, EXPECT_AT_MOST_ONE, gate_text(lane));
	if (rows->count == 1)
		first = row_int64(rows, 0, 0) -
				DatumGetInt16(row_datum(rows, 0, 1)) * (int64) PLACES_A_PRIORITY;
	entry = shared_table_ensure(&lines, &key, LW_EXCLUSIVE, lock);
	if (entry != NULL && !entry->is_set)
	{
		entry->place = Max(first, 0);
		entry->is_set = true;
	}
	return entry;
}

static int64
line_time(const char *lane)
{
	LWLock *lock;
	LineEntry *entry = lock_lane(lane, &lock);
	int64 place;

	if (entry == NULL)
		return 0;
	place = entry->place;
	LWLockRelease(lock);
	return place;
}

int64
line_reserve(const char *lane, const pg_uuid_t *tenant, int count)
{
	int64 now = line_time(lane);
	LineKey key = lane_key(lane);
	LineEntry *entry;
	LWLock *lock;
	int64 first;

	key.is_tenant = 1;
	if (tenant != NULL)
		key.tenant = *tenant;
	entry = shared_table_ensure(&lines, &key, LW_EXCLUSIVE, &lock);
	if (entry == NULL)
		return now + 1;
	first = Max(now, entry->place) + 1;
	entry->place = first + count - 1;
	LWLockRelease(lock);
	return first;
}

int64
line_head(const char *lane)
{
	return line_time(lane) + 1;
}

void
line_advance(const char *lane, int64 place, int64 rank)
{
	LWLock *lock;
	LineEntry *entry = lock_lane(lane, &lock);

	if (entry == NULL)
		return;
	entry->place = Max(entry->place, place);
	entry->last_rank = Max(entry->last_rank, rank);
	LWLockRelease(lock);
}

int64
line_last_rank(const char *lane)
{
	LWLock *lock;
	LineEntry *entry = lock_lane(lane, &lock);
	int64 rank;

	if (entry == NULL)
		return PG_INT64_MAX;
	rank = entry->is_known ? entry->last_rank : PG_INT64_MAX;
	LWLockRelease(lock);
	return rank;
}

void
line_set_known(const char *lane, int64 rank)
{
	LWLock *lock;
	LineEntry *entry = lock_lane(lane, &lock);

	if (entry == NULL)
		return;
	entry->last_rank = Max(entry->last_rank, rank);
	entry->is_known = true;
	LWLockRelease(lock);
}

bool
line_take_turn(const char *lane, TimestampTz now, int64 interval_us)
{
	LWLock *lock;
	LineEntry *entry = lock_lane(lane, &lock);
	bool is_mine;

	if (entry == NULL)
		return true;
	is_mine = entry->next_turn_at <= now || entry->next_turn_at > now + interval_us;
	if (is_mine)
		entry->next_turn_at = now + interval_us;
	LWLockRelease(lock);
	return is_mine;
}

typedef struct Idle
{
	int count;
	int capacity;
	LineKey *keys;
	LineKey *lanes;
	int64 *times;
	int lane_count;
} Idle;

static void
note_lane(void *pointer, void *argument)
{
	LineEntry *entry = pointer;
	Idle *idle = argument;

	if (entry->key.is_tenant || idle->lane_count == idle->capacity)
		return;
	idle->lanes[idle->lane_count] = entry->key;
	idle->times[idle->lane_count++] = entry->place;
}

static void
note_idle(void *pointer, void *argument)
{
	LineEntry *entry = pointer;
	Idle *idle = argument;

	for (int i = 0; entry->key.is_tenant && i < idle->lane_count; i++)
	{
		if (idle->lanes[i].database == entry->key.database &&
			idle->lanes[i].lane == entry->key.lane && entry->place <= idle->times[i] &&
			idle->count < idle->capacity)
			idle->keys[idle->count++] = entry->key;
	}
}

/* A tenant whose last place has been reached stands where one without an entry does. */
void
line_sweep(void)
{
	Idle idle = {.capacity = setting_max_tenants};
	LWLock *lock;

	idle.keys = palloc(sizeof(LineKey) * idle.capacity);
	idle.lanes = palloc(sizeof(LineKey) * idle.capacity);
	idle.times = palloc(sizeof(int64) * idle.capacity);
	shared_table_scan(&lines, LW_SHARED, note_lane, &idle);
	shared_table_scan(&lines, LW_SHARED, note_idle, &idle);
	for (int i = 0; i < idle.count; i++)
	{
		if (shared_table_find(&lines, &idle.keys[i], LW_EXCLUSIVE, &lock) == NULL)
			continue;
		shared_table_remove(&lines, &idle.keys[i]);
		LWLockRelease(lock);
	}
}
