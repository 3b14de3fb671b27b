// SPDX-License-Identifier: Apache-2.0
// The event of lttng_micro, in the way that LTTng wants it: its own headers read this one again.
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER mprof_bench
#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "tests/bench/lttng_event.h"

#if !defined(MPROF_LTTNG_EVENT_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define MPROF_LTTNG_EVENT_H
#include <lttng/tracepoint.h>
LTTNG_UST_TRACEPOINT_EVENT(mprof_bench, event, LTTNG_UST_TP_ARGS(unsigned long, number),
                           LTTNG_UST_TP_FIELDS(lttng_ust_field_integer(unsigned long, number,
                                                                       number)))
#endif
#include <lttng/tracepoint-event.h>
