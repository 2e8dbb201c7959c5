/*
 * observe/observe.h
 *		What monitoring is told.
 */
#pragma once

#include "postgres.h"

/* All three in a transaction; palloc'd. */

/* The metrics, in the text format of Prometheus (0.0.4). */
extern char *metrics_text(void);

/* What is to be scraped, as Prometheus's http_sd wants it. */
extern char *scrape_targets_text(void);

/* What is wrong with this database's work: sentences separated by line feeds, "" for nothing. */
extern char *health_problems(void);
