/* Kept forms of data: when they are made, found, and given up. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#undef fail /* it is core.h's here */
#include <string.h>
#include "core/core.h"

enum { MB = 1 << 20 };
static int64_t live_before;

static int64_t live(void) {
    vestige_memory_info info;
    vestige_memory(&info);
    return info.live;
}

static storage *new_storage(void) {
    storage *s;
    assert_int_equal(storage_new(&s, VESTIGE_CPU, 4096), VESTIGE_OK);
    return s;
}

/* A form of just under n MiB, which takes n. */
static kept_form *ask(storage *s, int form, int64_t n) {
    return keep_form(s, s->data, form, 0, n * MB - 64);
}

static int setup(void **state) {
    (void)state;
    live_before = live();
    vestige_weight_cache(8 * MB);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    vestige_weight_cache(KEPT_BUDGET);
    vestige_memory_cap(0);
    assert_int_equal(kept_bytes(), 0);
    assert_int_equal(live(), live_before);
    return 0;
}

static void the_second_time_keeps(void **state) {
    (void)state;
    storage *s = new_storage();
    int64_t before = live();
    assert_null(ask(s, 0, 1));
    assert_int_equal(live(), before); /* the mark costs nothing */
    kept_form *k = ask(s, 0, 1);
    assert_non_null(k);
    assert_false(k->made);
    assert_int_equal((uintptr_t)kept_data(k) % 64, 0);
    memset(kept_data(k), 7, MB - 64);
    k->made = true;
    assert_int_equal(kept_bytes(), MB);
    assert_int_equal(live(), before + MB);
    assert_ptr_equal(ask(s, 0, 1), k);
    assert_true(k->made);
    storage_unref(s);
}

static void forms_places_and_shapes_are_told_apart(void **state) {
    (void)state;
    storage *s = new_storage();
    const char *at = s->data;
    assert_null(keep_form(s, at, 0, 3, 1000));
    assert_null(keep_form(s, at, 1, 3, 1000));
    kept_form *a = keep_form(s, at, 0, 3, 1000), *b = keep_form(s, at, 1, 3, 1000);
    kept_form *c = keep_form(s, at, 0, 5, 1000), *d = keep_form(s, at + 64, 0, 3, 1000);
    assert_true(a && b && c && d && a != b && a != c && a != d && c != d);
    assert_ptr_equal(keep_form(s, at, 0, 3, 1000), a);
    assert_ptr_equal(keep_form(s, at, 1, 3, 1000), b);
    assert_ptr_equal(keep_form(s, at, 0, 5, 1000), c);
    assert_ptr_equal(keep_form(s, at + 64, 0, 3, 1000), d);
    storage_unref(s);
}

static void a_change_ends_all_forms_and_marks(void **state) {
    (void)state;
    storage *s = new_storage(), *other = new_storage();
    for (int i = 0; i < 2; i++) {
        ask(s, 0, 1);
        ask(s, 1, 1);
        ask(other, 0, 1);
    }
    ask(s, 2, 1);
    assert_int_equal(kept_bytes(), 3 * MB);
    uint32_t version = s->version;
    storage_changed(s);
    assert_int_equal(s->version, version + 1);
    assert_int_equal(kept_bytes(), MB);
    for (int form = 0; form < 3; form++)
        assert_null(ask(s, form, 1));
    assert_non_null(ask(s, 0, 1));
    storage_unref(s);
    assert_int_equal(kept_bytes(), MB); /* the other's */
    storage_unref(other);
}

/* Whoever gets the same memory finds nothing of those who had it before. */
static void a_storage_at_the_same_address_starts_anew(void **state) {
    (void)state;
    storage *s = new_storage();
    const void *at = s->data;
    ask(s, 0, 1);
    ask(s, 0, 1);
    storage_unref(s);
    assert_int_equal(kept_bytes(), 0);
    storage *t = new_storage();
    assert_ptr_equal(t->data, at);
    assert_null(ask(t, 0, 1));
    storage_unref(t);
}

static void a_round_that_does_not_fit_keeps_a_part(void **state) {
    (void)state;
    storage *s[4];
    kept_form *k[4] = { NULL };
    for (int i = 0; i < 4; i++)
        s[i] = new_storage();
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < 4; i++) {
            kept_form *got = ask(s[i], 0, 3);
            assert_true(kept_bytes() <= 8 * MB);
            if (round > 1)
                assert_ptr_equal(got, k[i]);
            k[i] = got;
        }
    assert_true(k[0] && k[1] && !k[2] && !k[3]);
    /* Asked for again before the others, it takes the place of the oldest. */
    assert_non_null(ask(s[3], 0, 3));
    assert_null(s[0]->kept);
    assert_non_null(s[1]->kept);
    for (int i = 0; i < 4; i++)
        storage_unref(s[i]);
}

static void the_budget_holds_at_once(void **state) {
    (void)state;
    storage *s = new_storage();
    assert_int_equal(vestige_weight_cache(-1), 8 * MB);
    for (int i = 0; i < 2; i++)
        for (int form = 0; form < KEPT_FORMS; form++)
            ask(s, form, 2);
    assert_int_equal(kept_bytes(), 8 * MB);
    assert_int_equal(vestige_weight_cache(5 * MB), 8 * MB);
    assert_int_equal(kept_bytes(), 4 * MB);
    assert_null(ask(s, 0, 6)); /* larger than all of it */
    assert_int_equal(kept_bytes(), 4 * MB);
    vestige_weight_cache(0);
    assert_int_equal(kept_bytes(), 0);
    for (int i = 0; i < 3; i++)
        assert_null(ask(s, 0, 1));
    storage_unref(s);
}

static void memory_that_others_need_is_given_up(void **state) {
    (void)state;
    storage *s = new_storage();
    for (int i = 0; i < 2; i++)
        for (int form = 0; form < KEPT_FORMS; form++)
            ask(s, form, 2);
    kept_form *last = s->kept;
    vestige_memory_cap(live() + MB);
    void *p;
    assert_int_equal(alloc_scratch(&p, 4 * MB), VESTIGE_OK);
    assert_int_equal(kept_bytes(), 2 * MB);
    assert_ptr_equal(s->kept, last); /* a kernel may be reading it */
    /* What would be kept takes nothing from others, and is no error. */
    clear_error();
    vestige_memory_cap(live() + MB);
    assert_null(ask(s, 0, 2));
    assert_null(ask(s, 0, 2));
    assert_int_equal(error_pending(), 0);
    assert_int_equal(kept_bytes(), 2 * MB);
    vestige_memory_cap(0);
    free_scratch(p, 4 * MB);
    vestige_empty_cache();
    assert_int_equal(kept_bytes(), 0);
    assert_int_equal(vestige_weight_cache(-1), 8 * MB);
    storage_unref(s);
}

#define T_(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T_(the_second_time_keeps),
        T_(forms_places_and_shapes_are_told_apart),
        T_(a_change_ends_all_forms_and_marks),
        T_(a_storage_at_the_same_address_starts_anew),
        T_(a_round_that_does_not_fit_keeps_a_part),
        T_(the_budget_holds_at_once),
        T_(memory_that_others_need_is_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
