/* The small recurrences and their loss, compiled by the machine's own compiler; loaded and described in rhn/kernels/compiled. */

#include "lanes.h"

#include "arguments.h"

#define CHUNK_BYTES (512 << 10)
#include "recurrence.h"

#include "input.h"

#include "highway.h"
#include "transition.h"
#include "bernoulli.h"
#include "update.h"

int rhn_lanes(void) { return LANES; }
