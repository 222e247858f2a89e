/* The small recurrences and their loss, compiled by the machine's own compiler. compiled.py puts the structs of the
   arguments before it. */

#include "lanes.h"

#define CHUNK_BYTES (512 << 10)
#include "rows.h"

#include "input.h"

#include "recurrence.h"
#include "bernoulli.h"
#include "softmax.h"

/* How this thread rounds and treats denormal numbers: threads of a pool get the mode of the thread that calls. */
#if defined(__x86_64__)
unsigned long rhn_float_mode(void) { return __builtin_ia32_stmxcsr(); }
void rhn_set_float_mode(unsigned long mode) { __builtin_ia32_ldmxcsr((unsigned)mode); }
#elif defined(__aarch64__)
unsigned long rhn_float_mode(void)
{
    unsigned long mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
void rhn_set_float_mode(unsigned long mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
unsigned long rhn_float_mode(void) { return 0; }
void rhn_set_float_mode(unsigned long mode) { (void)mode; }
#endif
