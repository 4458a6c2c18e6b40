/* stb.h: stb_image and stb_image_write as this program uses them: PNG and JPEG from memory, PNG to
 * memory. stb.c holds their only implementation. */
#ifndef VESTIGE_STB_H
#define VESTIGE_STB_H

#include <stddef.h>

/* The most bytes that stb_image gets at a time, for the thread that sets it: a short file can
 * unpack to far more than its image. */
extern _Thread_local size_t stb_budget;

#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_FAILURE_USERMSG
#define STBI_MAX_DIMENSIONS 32768
#define STBI_WRITE_NO_STDIO
#include <stb_image.h>
#include <stb_image_write.h>

#endif
