/* stream.h: stores that go past the caches. */
#ifndef VESTIGE_CPU_STREAM_H
#define VESTIGE_CPU_STREAM_H

#include "cpu/isa.h"

#if EMULATED
#define STREAM_STORE(to, v) vstore(to, v)
#elif LANES == 16
#define STREAM_STORE(to, v) _mm512_stream_ps(to, (__m512)(v))
#elif LANES == 8
#define STREAM_STORE(to, v) _mm256_stream_ps(to, (__m256)(v))
#else
#define STREAM_STORE(to, v) _mm_stream_ps(to, (__m128)(v))
#endif

enum { STREAMED = 16 << 20 }; /* bytes of a result from which it goes past the caches */

/* `to` lies on a multiple of 64 bytes. */
static inline void stream(void *to, const void *from, int64_t bytes) {
    int64_t whole = bytes / (LANES * 4) * (LANES * 4);
    for (int64_t i = 0; i < whole; i += LANES * 4)
        STREAM_STORE((float *)((char *)to + i), vload((const float *)((const char *)from + i)));
    if (whole < bytes)
        memcpy((char *)to + whole, (const char *)from + whole, (size_t)(bytes - whole));
}

/* Before other threads read what was streamed. */
static inline void stream_end(void) {
    _mm_sfence();
}

#endif
