/* Reads any bytes as CSV, with and without a header. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    const char *path = as_file(data, bytes);
    for (int header = -1; header < 2; header++) {
        vestige_tensor x, names;
        if (vestige_csv_read(&x, &names, path, header, header == 1 ? ';' : ',') >= 0) {
            look_and_release(&x);
            look_and_release(&names);
        }
    }
    return none_is_left();
}
