/*
 * subscription/coupon.h
 *		Coupons: discounts that tenants are given.
 */
#pragma once

#include "postgres.h"

#include "utils/uuid.h"

/* Give the tenant the coupon, as coupon_apply() does; the id of the redemption. */
extern pg_uuid_t *coupon_give(const pg_uuid_t *tenant, const char *code);

/* In the postmaster, from _PG_init. */
extern void coupon_init(void);
