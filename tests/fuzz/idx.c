/* Reads any bytes as an IDX file, plain or gzipped. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    vestige_tensor t;
    if (vestige_idx_read(&t, as_file(data, bytes)) >= 0)
        look_and_release(&t);
    return none_is_left();
}
