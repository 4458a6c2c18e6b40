/* What the two ways of stride 2 have in common. A row or a column of a tile has the SHORT points of
 * every other input, then those between, as they are. The input gradient is the same turned round:
 * its inputs all go both ways, and it is the outputs that take turns. Included by
 * winograd_strided.h and winograd_pairs_strided.h after their short transforms. */
#ifndef VESTIGE_CPU_WINOGRAD_ALTERNATE_H
#define VESTIGE_CPU_WINOGRAD_ALTERNATE_H

ALWAYS_INLINE void wino_points(vf *t, const vf *d, const bool back) {
    vf even[SHORT];
#pragma GCC unroll 5
    for (int i = 0; i < SHORT; i++)
        even[i] = d[back ? i : 2 * i];
    wino_short_input(t, even);
#pragma GCC unroll 4
    for (int i = 0; i < STEP; i++)
        t[SHORT + i] = d[back ? i : 2 * i + 1];
}

ALWAYS_INLINE void wino_gradient(vf *t, const vf *d) {
    wino_short_gradient(t, d);
#pragma GCC unroll 4
    for (int i = 0; i < STEP; i++)
        t[SHORT + i] = d[i];
}

ALWAYS_INLINE void wino_outputs(vf *y, const vf *m, const bool back) {
    vf t[STEP];
    wino_short_output(t, m);
#pragma GCC unroll 4
    for (int i = 0; i < STEP; i++) {
        if (back) {
            y[2 * i] = m[SHORT + i];
            y[2 * i + 1] = t[i];
        } else {
            y[i] = t[i] + m[SHORT + i];
        }
    }
}

#endif
