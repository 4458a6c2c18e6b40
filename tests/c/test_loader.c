/* The loader from C: the same bits for any number of threads, passes that are cut short, errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "include/vestige.h"
#include <cmocka.h>

enum { ROWS = 37, H = 6, W = 5, CH = 3, ROW = H * W * CH, BATCH = 4 };

static vestige_tensor images(void) {
    static uint8_t pixels[ROWS * ROW];
    for (int i = 0; i < ROWS * ROW; i++)
        pixels[i] = (uint8_t)(i * 31 + i / ROW * 7);
    int64_t dim[] = { ROWS, H, W, CH };
    vestige_tensor t;
    assert_true(vestige_from_data(&t, VESTIGE_U8, VESTIGE_CPU, 4, dim, pixels, sizeof pixels) >= 0);
    return t;
}

static const int64_t *backwards(void) {
    static int64_t rows[ROWS];
    for (int i = 0; i < ROWS; i++)
        rows[i] = ROWS - 1 - i;
    return rows;
}

static vestige_pass moving(void) {
    return (vestige_pass){ .count = ROWS,
                           .rows = backwards(),
                           .batch = BATCH,
                           .key = 99,
                           .epoch = 3,
                           .crop = 2,
                           .flip = 1 };
}

/* All batches of a pass, one after the other; returns how many rows there were. */
static int read_pass(vestige_loader *l, float *out) {
    int rows = 0;
    for (;;) {
        vestige_tensor t;
        assert_true(vestige_loader_next(l, &t) >= 0);
        if (!t._p)
            return rows;
        vestige_tensor_info info;
        assert_int_equal(vestige_describe(&t, &info), VESTIGE_OK);
        assert_int_equal(info.dtype, VESTIGE_F32);
        assert_int_equal(vestige_to_data(&t, out + rows * ROW, info.numel * 4), VESTIGE_OK);
        rows += (int)info.dim[0];
        vestige_release(&t);
    }
}

static void same_bits(void **state) {
    (void)state;
    static float want[ROWS * ROW], got[ROWS * ROW];
    vestige_tensor x = images();
    for (int kind = 0; kind < 3; kind++)
        for (int threads = 0; threads <= 8; threads = threads ? threads * 2 : 1) {
            vestige_loader *l;
            vestige_pass p = moving();
            if (kind == 0)
                p.crop = p.flip = 0;
            if (kind == 2)
                p.shift = 1.5;
            assert_int_equal(vestige_loader_new(&l, &x, threads), VESTIGE_OK);
            for (int again = 0; again < 5; again++) {
                memset(got, 0xff, sizeof got);
                assert_int_equal(vestige_loader_start(l, &p), VESTIGE_OK);
                assert_int_equal(read_pass(l, got), ROWS);
                if (!threads)
                    memcpy(want, got, sizeof want);
                assert_memory_equal(got, want, sizeof want);
            }
            vestige_loader_free(l);
        }
    vestige_release(&x);
}

static void cut_short(void **state) {
    (void)state;
    static float want[ROWS * ROW], got[ROWS * ROW];
    vestige_tensor x = images(), t;
    vestige_loader *l;
    vestige_pass p = moving();
    assert_int_equal(vestige_loader_new(&l, &x, 3), VESTIGE_OK);
    vestige_release(&x); /* the loader has a copy */
    assert_int_equal(vestige_loader_start(l, &p), VESTIGE_OK);
    read_pass(l, want);
    for (int taken = 0; taken < 9; taken++) {
        assert_int_equal(vestige_loader_start(l, &p), VESTIGE_OK);
        for (int i = 0; i < taken; i++) {
            assert_true(vestige_loader_next(l, &t) >= 0);
            vestige_release(&t);
        }
    }
    assert_int_equal(vestige_loader_start(l, &p), VESTIGE_OK);
    assert_int_equal(read_pass(l, got), ROWS);
    assert_memory_equal(got, want, sizeof want);
    assert_int_equal(vestige_loader_start(l, &p), VESTIGE_OK);
    vestige_loader_free(l); /* in the middle of a pass */
    vestige_loader_free(NULL);
}

static void errors(void **state) {
    (void)state;
    vestige_tensor x = images(), t;
    vestige_loader *l;
    assert_int_equal(vestige_loader_new(&l, &x, 65), VESTIGE_EVALUE);
    assert_int_equal(vestige_loader_new(&l, &x, 2), VESTIGE_OK);
    int64_t bad = ROWS;
    vestige_pass p = { .count = 1, .rows = &bad, .batch = 1 };
    assert_int_equal(vestige_loader_start(l, &p), VESTIGE_EVALUE);
    assert_non_null(strstr(vestige_message(), "row 38: expected 1 to 37"));
    assert_int_equal(vestige_loader_next(l, &t), VESTIGE_OK); /* no pass: none left */
    assert_null(t._p);
    p = moving();
    p.batch = 0;
    assert_int_equal(vestige_loader_start(l, &p), VESTIGE_EVALUE);
    p = moving();
    p.count = 0;
    assert_int_equal(vestige_loader_start(l, &p), VESTIGE_OK);
    assert_int_equal(vestige_loader_next(l, &t), VESTIGE_OK);
    assert_null(t._p);
    vestige_loader_free(l);
    vestige_release(&x);
}

static void failing_allocations(void **state) {
    (void)state;
    vestige_tensor x = images();
    vestige_memory_info before, after;
    vestige_memory(&before);
    bool done = false;
    int n = 0;
    while (!done) {
        vestige_loader *l = NULL;
        vestige_tensor t = { 0 };
        vestige_pass p = moving();
        vestige_fail_allocation(++n);
        done = vestige_loader_new(&l, &x, 2) == VESTIGE_OK &&
               vestige_loader_start(l, &p) == VESTIGE_OK && vestige_loader_next(l, &t) >= 0;
        vestige_fail_allocation(0);
        if (t._p)
            vestige_release(&t);
        vestige_loader_free(l);
        vestige_memory(&after);
        assert_int_equal(after.live, before.live);
    }
    assert_true(n > 10);
    vestige_release(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits),
        cmocka_unit_test(cut_short),
        cmocka_unit_test(errors),
        cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
