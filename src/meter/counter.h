/*
 * meter/counter.h
 *		What is counted of a tenant: one list for the enum, the columns and the parameters.
 *
 * X(NAME, column, n): column is that of tenancy.usage_hour and usage_minute, n the parameter
 * of the statement that flushes.
 */
#pragma once

#include "postgres.h"

#define METER_COUNTER_LIST(X)                                                                      \
	X(SELECTS, selects, 4)                                                                         \
	X(INSERTS, inserts, 5)                                                                         \
	X(UPDATES, updates, 6)                                                                         \
	X(DELETES, deletes, 7)                                                                         \
	X(MERGES, merges, 8)                                                                           \
	X(UTILITIES, utilities, 9)                                                                     \
	X(ROWS, rows, 10)                                                                              \
	X(ROWS_WRITTEN, rows_written, 11)                                                              \
	X(ELAPSED_US, elapsed_us, 12)                                                                  \
	X(PLANNING_US, planning_us, 13)                                                                \
	X(CPU_US, cpu_us, 14)                                                                          \
	X(COMMITS, commits, 15)                                                                        \
	X(ROLLBACKS, rollbacks, 16)                                                                    \
	X(BYTES_RECEIVED, bytes_received, 17)                                                          \
	X(BYTES_SENT, bytes_sent, 18)                                                                  \
	X(JIT_FUNCTIONS, jit_functions, 19)                                                            \
	X(JIT_US, jit_us, 20)                                                                          \
	X(BLOCKS_HIT, blocks_hit, 21)                                                                  \
	X(BLOCKS_READ, blocks_read, 22)                                                                \
	X(BLOCKS_DIRTIED, blocks_dirtied, 23)                                                          \
	X(BLOCKS_WRITTEN, blocks_written, 24)                                                          \
	X(LOCAL_BLOCKS_HIT, local_blocks_hit, 25)                                                      \
	X(LOCAL_BLOCKS_READ, local_blocks_read, 26)                                                    \
	X(LOCAL_BLOCKS_DIRTIED, local_blocks_dirtied, 27)                                              \
	X(LOCAL_BLOCKS_WRITTEN, local_blocks_written, 28)                                              \
	X(TEMP_BLOCKS_READ, temp_blocks_read, 29)                                                      \
	X(TEMP_BLOCKS_WRITTEN, temp_blocks_written, 30)                                                \
	X(IO_US, io_us, 31)                                                                            \
	X(TEMP_IO_US, temp_io_us, 32)                                                                  \
	X(WAL_RECORDS, wal_records, 33)                                                                \
	X(WAL_PAGES, wal_pages, 34)                                                                    \
	X(WAL_BYTES, wal_bytes, 35)                                                                    \
	X(CONNECTIONS, connections, 36)                                                                \
	X(CONNECTION_US, connection_us, 37)                                                            \
	X(LOCK_WAITS, lock_waits, 38)                                                                  \
	X(LOCK_WAIT_US, lock_wait_us, 39)

/* Up to METER_OWN_COUNTERS each session counts itself, up to METER_CONNECTIONS the server does. */
#define METER_ENUM(name, column, parameter) METER_##name,
typedef enum MeterCounter
{
	METER_COUNTER_LIST(METER_ENUM) METER_COUNTERS
} MeterCounter;
#undef METER_ENUM

#define METER_OWN_COUNTERS METER_BLOCKS_HIT

typedef struct MeterCounts
{
	uint64 value[METER_COUNTERS];
} MeterCounts;
