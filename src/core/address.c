/*
 * core/address.c
 *		Which addresses deliveries may go to.
 *
 * An URL comes from a tenant, and what it resolves to from whoever runs that zone: a
 * delivery must not reach what only the server can reach.  Addresses are judged when they are
 * connected to, not when they are resolved.  Those that carry an IPv4 address inside are
 * judged by it.
 */
#include "postgres.h"

#include "core/function.h"
#include "core/settings.h"
#include "core/address.h"

#include "utils/builtins.h"
#include "utils/inet.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

typedef struct Network
{
	int family;
	unsigned char prefix[16];
	int bits;
} Network;

/* IANA IPv4 and IPv6 Special-Purpose Address Registries: what is not globally reachable. */
static const Network private_v4[] = {
	{AF_INET, {0}, 8},
	{AF_INET, {10}, 8},
	{AF_INET, {100, 64}, 10},
	{AF_INET, {127}, 8},
	{AF_INET, {169, 254}, 16},
	{AF_INET, {172, 16}, 12},
	{AF_INET, {192, 0, 0}, 24},
	{AF_INET, {192, 0, 2}, 24},
	{AF_INET, {192, 88, 99}, 24},
	{AF_INET, {192, 168}, 16},
	{AF_INET, {198, 18}, 15},
	{AF_INET, {198, 51, 100}, 24},
	{AF_INET, {203, 0, 113}, 24},
	{AF_INET, {224}, 4},
	{AF_INET, {240}, 4},
};
/* Only 2000::/3 is global unicast; these are the parts of it that are not reachable. */
static const Network global_v6 = {AF_INET6, {0x20}, 3};
static const Network private_v6[] = {
	{AF_INET6, {0x20, 0x01, 0x00}, 23},
	{AF_INET6, {0x20, 0x01, 0x0d, 0xb8}, 32},
	{AF_INET6, {0x3f, 0xff}, 20},
};
/* Where an IPv4 address stands inside. */
static const struct
{
	Network network;
	int offset;
} carriers[] = {
	{{AF_INET6, {[10] = 0xff, [11] = 0xff}, 96}, 12}, /* mapped, RFC 4291 */
	{{AF_INET6, {0x00, 0x64, 0xff, 0x9b}, 96}, 12},   /* translated, RFC 6052 */
	{{AF_INET6, {0x20, 0x02}, 16}, 2},                /* 6to4, RFC 3056 */
};

static bool
is_in(const Network *network, int family, const unsigned char *address)
{
	int whole = network->bits / 8;
	int rest = network->bits % 8;

	return network->family == family && memcmp(network->prefix, address, whole) == 0 &&
		   (rest == 0 || ((network->prefix[whole] ^ address[whole]) >> (8 - rest)) == 0);
}

static bool
is_public_v4(const unsigned char *address)
{
	for (int i = 0; i < lengthof(private_v4); i++)
	{
		if (is_in(&private_v4[i], AF_INET, address))
			return false;
	}
	return true;
}

static bool
is_public_v6(const unsigned char *address)
{
	for (int i = 0; i < lengthof(carriers); i++)
	{
		if (is_in(&carriers[i].network, AF_INET6, address))
			return is_public_v4(address + carriers[i].offset);
	}
	for (int i = 0; i < lengthof(private_v6); i++)
	{
		if (is_in(&private_v6[i], AF_INET6, address))
			return false;
	}
	return is_in(&global_v6, AF_INET6, address);
}

static const unsigned char *
address_bytes(const struct sockaddr *address)
{
	switch (address->sa_family)
	{
		case AF_INET:
			return (const unsigned char *) &((const struct sockaddr_in *) address)->sin_addr;
		case AF_INET6:
			return (const unsigned char *) &((const struct sockaddr_in6 *) address)->sin6_addr;
		default:
			return NULL;
	}
}

bool
address_is_public(const struct sockaddr *address)
{
	const unsigned char *bytes = address_bytes(address);

	if (bytes == NULL)
		return false;
	return address->sa_family == AF_INET ? is_public_v4(bytes) : is_public_v6(bytes);
}

/* The next network of a list; false at its end, and *is_valid tells why. */
static bool
next_network(const char **list, Network *network, bool *is_valid)
{
	char text[64];
	char *slash;
	size_t length;

	*list += strspn(*list, ", \t");
	*is_valid = true;
	if (**list == '\0')
		return false;
	length = strcspn(*list, ", \t");
	*is_valid = false;
	if (length >= sizeof(text))
		return false;
	memcpy(text, *list, length);
	text[length] = '\0';
	*list += length;

	slash = strchr(text, '/');
	if (slash != NULL)
		*slash++ = '\0';
	memset(network, 0, sizeof(Network));
	network->family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
	if (inet_pton(network->family, text, network->prefix) != 1)
		return false;
	network->bits = network->family == AF_INET ? 32 : 128;
	if (slash != NULL)
	{
		char *end;
		long bits = strtol(slash, &end, 10);

		if (*slash == '\0' || *end != '\0' || bits < 0 || bits > network->bits)
			return false;
		network->bits = (int) bits;
	}
	*is_valid = true;
	return true;
}

bool
address_is_allowed(const struct sockaddr *address)
{
	const char *list = setting_webhook_allowed_networks;
	const unsigned char *bytes = address_bytes(address);
	Network network;
	bool is_valid;

	while (bytes != NULL && next_network(&list, &network, &is_valid))
	{
		if (is_in(&network, address->sa_family, bytes))
			return true;
	}
	return false;
}

bool
address_check_networks(char **value, void **extra, GucSource source)
{
	const char *list = *value;
	Network network;
	bool is_valid;

	while (next_network(&list, &network, &is_valid))
		;
	if (!is_valid)
		GUC_check_errdetail("It is a list of networks, such as \"127.0.0.0/8, fd00::/8\".");
	return is_valid;
}

/* tenancy.address_is_public(address inet) → boolean */
TENANCY_FUNCTION(address_is_public)
{
	inet *address = PG_GETARG_INET_PP(0);

	PG_RETURN_BOOL(ip_family(address) == PGSQL_AF_INET ? is_public_v4(ip_addr(address))
													   : is_public_v6(ip_addr(address)));
}

#define LOOPBACK "127.0.0.1:"
#define MAX_PORT 65535
#define MAX_PORT_DIGITS 5

int
address_read_listen(const char *text, struct sockaddr_storage *address)
{
	struct sockaddr_un *local = (struct sockaddr_un *) address;
	struct sockaddr_in *loopback = (struct sockaddr_in *) address;
	const char *port = text + strlen(LOOPBACK);
	size_t digits;

	memset(address, 0, sizeof(*address));
	if (*text == '/')
	{
		if (strlen(text) >= sizeof(local->sun_path))
			return 0;
		local->sun_family = AF_UNIX;
		strlcpy(local->sun_path, text, sizeof(local->sun_path));
		return sizeof(*local);
	}
	if (strncmp(text, LOOPBACK, strlen(LOOPBACK)) != 0)
		return 0;
	digits = strlen(port);
	if (digits == 0 || digits > MAX_PORT_DIGITS || strspn(port, "0123456789") != digits ||
		atoi(port) < 1 || atoi(port) > MAX_PORT)
		return 0;
	loopback->sin_family = AF_INET;
	loopback->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	loopback->sin_port = htons(atoi(port));
	return sizeof(*loopback);
}

bool
address_check_listen(char **value, void **extra, GucSource source)
{
	struct sockaddr_storage address;

	if (**value == '\0' || address_read_listen(*value, &address) > 0)
		return true;
	GUC_check_errdetail("It is \"127.0.0.1:\" and a port, or the path of a socket; the door is not "
						"for other machines.");
	return false;
}
