/* Runs kernels of another processor: `foreign` under an emulator.
 *
 * Standard input: the number of buffers, the size of each, and their contents; then, for each
 * kernel, its number of arguments, which buffers they are, its number of symbols and their values,
 * its bytes of scratch and its number of chunks. All numbers are 64-bit. Standard output: the code
 * of the first kernel that failed, or 0, and the contents of all buffers. Each buffer ends right
 * before a page without access, or begins right behind one.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 65536

typedef int64_t (*Kernel)(void **, int64_t *, void *, int64_t, int64_t);
extern const Kernel kernels[];

static void take(void *into, size_t size) {
    if (fread(into, 1, size, stdin) != size) exit(2);
}

static int64_t number(void) {
    int64_t value;
    take(&value, sizeof value);
    return value;
}

static char *fenced(int64_t size, int at_end) {
    int64_t pages = size < 1 ? 1 : (size + PAGE - 1) / PAGE;
    char *base = mmap(NULL, (pages + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + PAGE, pages * PAGE, PROT_READ | PROT_WRITE)) exit(3);
    return at_end ? base + (pages + 1) * PAGE - size : base + PAGE;
}

int main(void) {
    int at_end = (int)number();
    int64_t buffers = number(), count = number(), failed = 0;
    char **memory = calloc(buffers, sizeof *memory);
    int64_t *sizes = calloc(buffers, sizeof *sizes);
    for (int64_t b = 0; b < buffers; b++) {
        sizes[b] = number();
        memory[b] = fenced(sizes[b], at_end);
        take(memory[b], sizes[b]);
    }
    for (int64_t k = 0; k < count && !failed; k++) {
        int64_t n = number();
        void **arguments = calloc(n + 1, sizeof *arguments);
        for (int64_t i = 0; i < n; i++) arguments[i] = memory[number()];
        int64_t symbols = number();
        int64_t *values = calloc(symbols + 1, sizeof *values);
        for (int64_t i = 0; i < symbols; i++) values[i] = number();
        char *scratch = fenced(number(), 1);
        int64_t chunks = number();
        for (int64_t c = chunks - 1; c >= 0 && !failed; c--) {
            int64_t code = kernels[k](arguments, values, scratch, c, chunks);
            if (code) failed = (k << 32) + code;
        }
    }
    fwrite(&failed, sizeof failed, 1, stdout);
    for (int64_t b = 0; b < buffers; b++) fwrite(memory[b], 1, sizes[b], stdout);
    return 0;
}
