/* Opens any bytes as safetensors, reads all entries in both layouts and all metadata. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    vestige_safetensors *f;
    if (vestige_safetensors_open(&f, as_file(data, bytes)) < 0)
        return none_is_left();
    vestige_entry e;
    for (int i = 0; vestige_safetensors_entry(f, i, &e) == VESTIGE_OK; i++) {
        for (int layout = 0; layout < 2; layout++) {
            vestige_tensor t;
            if (vestige_safetensors_read(&t, f, i, layout) >= 0)
                look_and_release(&t);
        }
    }
    const char *key, *value;
    for (int i = 0; vestige_safetensors_metadata(f, i, &key, &value) == VESTIGE_OK; i++) {
    }
    vestige_safetensors_close(f);
    return none_is_left();
}
