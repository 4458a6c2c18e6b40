/* Reads any bytes as CIFAR-10's records. The length is rounded to whole records half of the time:
 * a fuzzer finds a multiple of 3,073 too rarely. */
#include <string.h>
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static uint8_t records[3 * 3073];
    vestige_tensor x, y;
    if (bytes && data[0] & 1) {
        size_t n = 1 + data[0] / 2 % 3, have = bytes - 1 < n * 3073 ? bytes - 1 : n * 3073;
        memset(records, 0, sizeof records);
        memcpy(records, data + 1, have);
        data = records;
        bytes = n * 3073;
    }
    const char *const path[] = { as_file(data, bytes), as_file(data, bytes) };
    if (vestige_cifar_read(&x, &y, 2, path) >= 0) {
        look_and_release(&x);
        look_and_release(&y);
    }
    return none_is_left();
}
