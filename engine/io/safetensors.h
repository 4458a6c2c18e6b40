/* safetensors.h: the element types of safetensors files, for its reader and its writer. */
#ifndef VESTIGE_SAFETENSORS_H
#define VESTIGE_SAFETENSORS_H

#include "io/io.h"

typedef struct file_type {
    char name[12];
    int8_t size;  /* bytes of an element */
    int8_t dtype; /* what a tensor of it is read into; -1: nothing here */
} file_type;

static const file_type file_types[] = {
    { "F32", 4, VESTIGE_F32 },
    { "F64", 8, VESTIGE_F64 },
    { "BF16", 2, VESTIGE_BF16 },
    { "I64", 8, VESTIGE_I64 },
    { "I32", 4, VESTIGE_I32 },
    { "U8", 1, VESTIGE_U8 },
    { "BOOL", 1, VESTIGE_BOOL }, /* up to here in the order of vestige_dtype */
    { "F16", 2, VESTIGE_F32 },
    { "I8", 1, -1 },
    { "I16", 2, -1 },
    { "U16", 2, -1 },
    { "U32", 4, -1 },
    { "U64", 8, -1 },
    { "F8_E4M3", 1, -1 },
    { "F8_E5M2", 1, -1 },
    { "C64", 8, -1 },
};

/* The reference implementation's limit too. */
enum { MAX_HEADER = 100000000 };

#endif
