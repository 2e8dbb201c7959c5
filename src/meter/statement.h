/*
 * meter/statement.h
 *		Counting what statements use: for the hook floor.
 */
#pragma once

#include "postgres.h"

#include "catalog/extension.h"
#include "core/settings.h"
#include "meter/counter.h"

#include "access/xact.h"
#include "executor/execdesc.h"
#include "parser/parse_node.h"
#include "tcop/pquery.h"

/* Nobody outside of the library has them: their addresses need not be looked up. */
#pragma GCC visibility push(hidden)

/*
 * The hot path (statement.c): the hook floor says what happens at nesting level 0.
 *
 * What a session counts itself is the sum since it began.  It goes to the tenant of a
 * transaction when that ends, with whatever else the process used since the end before.
 */
extern uint64 meter_own[METER_OWN_COUNTERS];

/* Has something been counted in this transaction, and so must be settled at its end? */
extern bool meter_is_open;
extern bool meter_open(void);

/* Has the session begun to count, and nothing happened since that could keep it from it? */
extern bool meter_is_begun;
extern uint64 meter_bytes_sent;  /* by this session: wire.c */
extern uint64 meter_sent_before; /* the transaction began */

/* May this session count now?  Client sessions alone do, where the extension is. */
static inline bool
meter_is_on(void)
{
	if (likely(meter_is_open))
		return setting_metering != METERING_OFF;
	if (setting_metering == METERING_OFF)
		return false;
	if (likely(meter_is_begun && extension_is_ready()))
	{
		meter_sent_before = meter_bytes_sent;
		meter_is_open = true;
		return true;
	}
	return meter_open();
}

/*
 * A statement that the client sent is counted once, by its kind.  This tells it from what
 * the server runs for itself outside of a portal: functions that the planner evaluates,
 * input functions of parameters, deferred triggers.
 */
static inline bool
meter_is_client_statement(void)
{
	return ActivePortal != NULL;
}

extern void meter_count_query(const QueryDesc *query);
extern void meter_count_utility(void);

/* Around what takes time; the second is left out where an error ends the transaction. */
extern void meter_start_clock(void);
extern void meter_stop_clock(void);

/* The statement of the client is done, after all its brackets: a latency. */
extern void meter_note_latency(void);

/*
 * The clock stops after a run of a query; is it a statement of the client, whose rows count, and
 * was that all of it?
 */
extern void meter_end_run(const QueryDesc *query, bool is_client, bool is_last);

/* What the server compiled for a query that ends, at any level. */
extern void meter_note_jit(const QueryDesc *query);

/* Around a utility statement: the time, and what COPY read from the client. */
extern void meter_begin_utility(void);
extern void meter_end_utility(bool copies_in);

/* Around the planner, where a statement of the client is planned. */
extern bool meter_begin_planning(void);
extern void meter_end_planning(void);

extern void meter_transaction_event(XactEvent event);
/* Bytes that this session has received (wire.c). */
extern void meter_note_parse(const ParseState *state);
extern void meter_note_statement_text(void);
extern uint64 meter_parameter_bytes(ParamListInfo parameters);

#pragma GCC visibility pop
