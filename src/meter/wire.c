/*
 * meter/wire.c
 *		Bytes between the server and the client.
 *
 * Sent: every message of the protocol, with its type and its length, as the server hands it
 * to the connection; TLS and TCP add to it.  The methods of the connection are wrapped in the
 * postmaster, so that backends inherit them; parallel workers put others in their place.
 *
 * Received: PostgreSQL has no hook below the reading of messages, so what can be seen is
 * added up: the texts of queries (of Query and Parse messages), the values of parameters
 * that are bound (as the server holds them: their binary form), and the data of COPY FROM
 * STDIN (as COPY itself counts it).  Not seen are the rest of the messages, texts with a
 * syntax error, and function calls by the fast path.
 */
#include "postgres.h"

#include "core/hot.h"
#include "meter/meter.h"
#include "meter/statement.h"

/*
 * libpq.h brings the struct Port, which is not looked at here; parts of it need the headers of
 * libraries that building an extension does not.
 */
#undef ENABLE_GSS
#undef USE_OPENSSL

#include "catalog/pg_type.h"
#include "libpq/libpq.h"
#include "miscadmin.h"
#include "nodes/params.h"
#include "parser/parse_node.h"
#include "tcop/tcopprot.h"
#include "utils/lsyscache.h"
#include "utils/portal.h"
#include "utils/uuid.h"

#define MESSAGE_HEAD 5 /* the type, and four bytes of length */
#define LENGTH_WORD 4  /* before each value of a Bind message */

uint64 meter_bytes_sent HOT_DATA = 0;

static const PQcommMethods *wrapped;

static pg_attribute_hot int
count_message(char type, const char *body, size_t length)
{
	meter_bytes_sent += length + MESSAGE_HEAD;
	return wrapped->putmessage(type, body, length);
}

static void
count_message_noblock(char type, const char *body, size_t length)
{
	meter_bytes_sent += length + MESSAGE_HEAD;
	wrapped->putmessage_noblock(type, body, length);
}

/* Several statements of one text come one by one; each message has a time of its own. */
static void
note_text(const char *text)
{
	static TimestampTz last_arrival = 0;
	TimestampTz arrival = GetCurrentStatementStartTimestamp();

	if (text == NULL || text != debug_query_string || arrival == last_arrival)
		return;
	last_arrival = arrival;
	meter_own[METER_BYTES_RECEIVED] += MESSAGE_HEAD + strlen(text) + 1;
}

/* Where the types of parameters are open it is a Parse message, and no plan that is made anew. */
void
meter_note_parse(const ParseState *state)
{
	if (setting_metering != METERING_OFF && MyBackendType == B_BACKEND &&
		state->p_coerce_param_hook != NULL)
		note_text(state->p_sourcetext);
}

/* A portal without a cached plan is that of a Query message. */
pg_attribute_hot void
meter_note_statement_text(void)
{
	if (ActivePortal->cplan == NULL)
		note_text(ActivePortal->sourceText);
}

static uint64
value_bytes(const ParamExternData *parameter)
{
	int16 length;

	if (parameter->isnull)
		return 0;
	switch (parameter->ptype)
	{
		case BOOLOID:
			return 1;
		case INT4OID:
			return sizeof(int32);
		case INT8OID:
		case FLOAT8OID:
		case TIMESTAMPTZOID:
			return sizeof(int64);
		case UUIDOID:
			return UUID_LEN;
		case BPCHAROID:
		case BYTEAOID:
		case JSONBOID:
		case JSONOID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
			return VARSIZE_ANY_EXHDR(DatumGetPointer(parameter->value));
		default:
			break;
	}
	length = get_typlen(parameter->ptype);
	if (length > 0)
		return length;
	return length == -1 ? VARSIZE_ANY_EXHDR(DatumGetPointer(parameter->value))
						: strlen(DatumGetCString(parameter->value));
}

static pg_noinline uint64
parameter_bytes(ParamListInfo parameters)
{
	uint64 sum = 0;

	for (int i = 0; i < parameters->numParams; i++)
		sum += LENGTH_WORD + value_bytes(&parameters->params[i]);
	return sum;
}

/* Not of lists that are filled by a function: those of PL/pgSQL, which nobody has sent. */
pg_attribute_hot uint64
meter_parameter_bytes(ParamListInfo parameters)
{
	if (parameters->paramFetch != NULL)
		return 0;
	/* Keys, as a rule: what is added up without looking at types any further. */
	for (int i = 0; i < parameters->numParams; i++)
		if (parameters->params[i].ptype != INT4OID || parameters->params[i].isnull)
			return parameter_bytes(parameters);
	return (uint64) parameters->numParams * (LENGTH_WORD + sizeof(int32));
}

void
meter_wire_init(void)
{
	static PQcommMethods methods;

	wrapped = PqCommMethods;
	methods = *wrapped;
	methods.putmessage = count_message;
	methods.putmessage_noblock = count_message_noblock;
	PqCommMethods = &methods;
}
