// A processor that has nothing to do, for a real llama-server that loads with LD_PRELOAD what no test machine could hold.
//
// Host memory is mapped and never touched: weights are not read ahead, nothing is multiplied by them, and keys and
// values are not filled. Sparse files of hundreds of GB load in a second then, and everything is allocated as ever.

#include <dlfcn.h>
#include <sys/mman.h>

extern "C" {

// src/llama-mmap.cpp asks for all pages at once; of a hole in a file each would become a real one.
void * mmap(void * address, size_t size, int protection, int flags, int file, off_t offset) {
    using Map = void * (*) (void *, size_t, int, int, int, off_t);
    static const Map map = reinterpret_cast<Map>(dlsym(RTLD_NEXT, "mmap"));
    return map(address, size, protection, flags & ~MAP_POPULATE, file, offset);
}

int posix_madvise(void *, size_t, int) { return 0; }

// ggml/src/ggml-backend.cpp: keys and values are filled with zeros, which fresh pages are.
void ggml_backend_buffer_clear(void *, unsigned char) {}

// ggml/src/ggml-cpu/ggml-cpu.c; GGML_STATUS_SUCCESS.
int ggml_graph_compute(void *, void *) { return 0; }
}
