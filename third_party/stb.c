/* stb.c: the implementation of stb_image and stb_image_write (Debian's libstb-dev), compiled here
 * once and with its warnings off. */
#include <stddef.h>
#include <stdlib.h>

extern _Thread_local size_t stb_budget;
_Thread_local size_t stb_budget;

/* Zeroed: a JPEG that leaves out a table or a scan must not show what memory held before. */
static void *take(size_t bytes) {
    return bytes > stb_budget ? NULL : calloc(1, bytes);
}

static void *take_again(void *p, size_t bytes) {
    return bytes > stb_budget ? NULL : realloc(p, bytes);
}

#define STBI_MALLOC(bytes) take(bytes)
#define STBI_REALLOC(p, bytes) take_again(p, bytes)
#define STBI_FREE(p) free(p)
#define STBI_ASSERT(x) ((void)0) /* damaged files must not end the program */
#define STBIW_ASSERT(x) ((void)0)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include "stb.h"
