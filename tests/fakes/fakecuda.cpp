// Pretend NVIDIA cards for an unmodified llama-server: a ggml backend that is loaded with GGML_BACKEND_PATH.
//
//   FAKECUDA="NVIDIA GeForce RTX 3060:860:11906:11650;..."   description:compute capability:total MiB:free MiB[:UUID]
//   FAKECUDA_DISCARD=1     neither copies nor computes, so that a model of any size loads in seconds
//   FAKECUDA_PAUSE_US=N    each graph takes so long, as on a card that computes while the processor waits
//   FAKECUDA_STATS=FILE    appends a line per card at the end: graphs, bytes moved, bytes of weights and keys read
//
// Names, sizes and refusals follow ggml/src/ggml-cuda/ggml-cuda.cu: alignment of 128 bytes, rows padded to 512 values,
// copies of quantized keys and values in f16 for flash attention, work taken over from the host from 32 tokens on, and
// "out of memory" beyond the free memory. CUDA_VISIBLE_DEVICES renumbers, as CUDA does. It computes on the CPU.

#include "ggml-backend-impl.h"
#include "ggml-backend.h"
#include "ggml.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr size_t MIB = 1048576;
constexpr size_t ALIGNMENT = 128;
constexpr int64_t ROW_PADDING = 512;
// ggml-cuda.cu: GGML_OP_OFFLOAD_MIN_BATCH.
constexpr int64_t LEAST_BATCH_TAKEN_OVER = 32;
constexpr int ADA = 890;
constexpr int TURING = 750;
const char * const DEFAULT_CARDS =
    "NVIDIA GeForce RTX 5080:1200:15880:15500;NVIDIA GeForce RTX 3060:860:11906:11650;"
    "NVIDIA GeForce GTX 1080 Ti:610:11165:10950";

struct Transfers {
    size_t count = 0;
    size_t bytes = 0;

    void add(size_t size) {
        count++;
        bytes += size;
    }
};

struct Card {
    int index = 0;
    std::string name;
    std::string description;
    std::string bus;
    int capability = 0;
    size_t total = 0;
    size_t free = 0;
    size_t used = 0;
    size_t peak = 0;
    size_t graphs = 0;
    size_t nodes = 0;
    size_t weight_bytes = 0;
    size_t kv_bytes = 0;
    Transfers from_host;
    Transfers to_host;
    Transfers between;
    ggml_backend_buffer_type buffer_type = {};
    ggml_backend_device device = {};
};

struct CardBuffer {
    Card * card;
    void * base;
    size_t size;
};

struct CardBackend {
    Card * card;
    ggml_backend_t cpu;
};

std::vector<std::unique_ptr<Card>> cards;
ggml_backend_reg registry;
ggml_backend_buffer_type pinned_type;
bool discards = false;
unsigned pause_us = 0;

Card * card_of(ggml_backend_dev_t device) { return static_cast<Card *>(device->context); }
Card * card_of(ggml_backend_buffer_type_t type) { return static_cast<Card *>(type->context); }
CardBuffer * data_of(ggml_backend_buffer_t buffer) { return static_cast<CardBuffer *>(buffer->context); }

const char * type_name(ggml_backend_buffer_type_t type) { return card_of(type)->name.c_str(); }
bool is_on_card(ggml_backend_buffer_type_t type) { return type->iface.get_name == type_name; }

void * reserve(size_t size) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void * found = mmap(nullptr, size ? size : 1, PROT_READ | PROT_WRITE, flags, -1, 0);
    return found == MAP_FAILED ? nullptr : found;
}

// ---- a buffer on a card

void buffer_free(ggml_backend_buffer_t buffer) {
    CardBuffer * data = data_of(buffer);
    munmap(data->base, data->size ? data->size : 1);
    data->card->used -= data->size;
    delete data;
}

void * buffer_base(ggml_backend_buffer_t buffer) { return data_of(buffer)->base; }

void buffer_memset(ggml_backend_buffer_t, ggml_tensor * tensor, uint8_t value, size_t offset, size_t size) {
    if (!discards) memset(static_cast<char *>(tensor->data) + offset, value, size);
}

void buffer_set(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * from, size_t offset, size_t size) {
    if (buffer->usage != GGML_BACKEND_BUFFER_USAGE_WEIGHTS) data_of(buffer)->card->from_host.add(size);
    if (!discards) memcpy(static_cast<char *>(tensor->data) + offset, from, size);
}

void buffer_get(ggml_backend_buffer_t buffer, const ggml_tensor * tensor, void * to, size_t offset, size_t size) {
    data_of(buffer)->card->to_host.add(size);
    if (discards) {
        memset(to, 0, size);
    } else {
        memcpy(to, static_cast<const char *>(tensor->data) + offset, size);
    }
}

bool buffer_copy(ggml_backend_buffer_t buffer, const ggml_tensor * from, ggml_tensor * to) {
    if (!from->buffer || !is_on_card(from->buffer->buft)) return false;
    data_of(buffer)->card->between.add(ggml_nbytes(from));
    if (!discards) memcpy(to->data, from->data, ggml_nbytes(from));
    return true;
}

void buffer_clear(ggml_backend_buffer_t buffer, uint8_t value) {
    // Fresh pages are zero, and filling them would make them real.
    if (!discards && value) memset(data_of(buffer)->base, value, data_of(buffer)->size);
}

ggml_backend_buffer_i buffer_interface() {
    ggml_backend_buffer_i found = {};
    found.free_buffer = buffer_free;
    found.get_base = buffer_base;
    found.memset_tensor = buffer_memset;
    found.set_tensor = buffer_set;
    found.get_tensor = buffer_get;
    found.cpy_tensor = buffer_copy;
    found.clear = buffer_clear;
    return found;
}

ggml_backend_buffer_t type_allocate(ggml_backend_buffer_type_t type, size_t size) {
    Card * card = card_of(type);
    if (card->used + size > card->free) {
        fprintf(stderr,
                "ggml_backend_cuda_buffer_type_alloc_buffer: allocating %.2f MiB on device %d: cudaMalloc failed: "
                "out of memory\n",
                static_cast<double>(size) / MIB, card->index);
        return nullptr;
    }
    void * base = reserve(size);
    if (!base) return nullptr;
    card->used += size;
    if (card->used > card->peak) card->peak = card->used;
    return ggml_backend_buffer_init(type, buffer_interface(), new CardBuffer{card, base, size}, size);
}

size_t type_alignment(ggml_backend_buffer_type_t) { return ALIGNMENT; }

// fattn.cu, ggml_cuda_flash_attn_ext_get_alloc_size: f16 copies of what is kept in another type, unless the kernel for
// single tokens is used.
size_t with_f16_copies(const Card * card, const ggml_tensor * tensor, size_t size) {
    const ggml_tensor * queries = tensor->src[0];
    const ggml_tensor * keys = tensor->src[1];
    const ggml_tensor * values = tensor->src[2];
    const int64_t head = queries->ne[0];
    const bool has_vector_kernel = head <= 256 && head % 64 == 0 && head != 192 && keys->ne[1] % 256 == 0;
    const bool is_quantized = ggml_is_quantized(keys->type) || ggml_is_quantized(values->type);
    const bool takes_two = is_quantized && (card->capability >= ADA || card->capability < TURING);
    if (has_vector_kernel && queries->ne[1] <= (takes_two ? 2 : 1)) return size;
    const bool is_same = values->view_src && (values->view_src == keys || (values->view_src == keys->view_src &&
                                                                           values->view_offs == keys->view_offs));
    if (keys->type != GGML_TYPE_F16) size = GGML_PAD(size, ALIGNMENT) + ggml_nelements(keys) * 2;
    if (values->type != GGML_TYPE_F16 && !is_same) size = GGML_PAD(size, ALIGNMENT) + ggml_nelements(values) * 2;
    return size;
}

size_t type_allocated_size(ggml_backend_buffer_type_t type, const ggml_tensor * tensor) {
    size_t size = ggml_nbytes(tensor);
    if (tensor->op == GGML_OP_FLASH_ATTN_EXT) size = with_f16_copies(card_of(type), tensor, size);
    const int64_t beyond = tensor->ne[0] % ROW_PADDING;
    if (ggml_is_quantized(tensor->type) && beyond) size += ggml_row_size(tensor->type, ROW_PADDING - beyond);
    return size;
}

ggml_backend_buffer_type_i type_interface() {
    ggml_backend_buffer_type_i found = {};
    found.get_name = type_name;
    found.alloc_buffer = type_allocate;
    found.get_alignment = type_alignment;
    found.get_alloc_size = type_allocated_size;
    return found;
}

// ---- host memory pinned for the cards

const char * pinned_name(ggml_backend_buffer_type_t) { return "CUDA_Host"; }
bool pinned_is_host(ggml_backend_buffer_type_t) { return true; }
size_t pinned_alignment(ggml_backend_buffer_type_t) { return 64; }
void pinned_free(ggml_backend_buffer_t buffer) { munmap(ggml_backend_buffer_get_base(buffer), buffer->size); }

ggml_backend_buffer_t pinned_allocate(ggml_backend_buffer_type_t type, size_t size) {
    void * base = reserve(size);
    if (!base) return nullptr;
    ggml_backend_buffer_t buffer = ggml_backend_cpu_buffer_from_ptr(base, size);
    buffer->buft = type;
    buffer->iface.free_buffer = pinned_free;
    return buffer;
}

ggml_backend_buffer_type_i pinned_interface() {
    ggml_backend_buffer_type_i found = {};
    found.get_name = pinned_name;
    found.alloc_buffer = pinned_allocate;
    found.get_alignment = pinned_alignment;
    found.is_host = pinned_is_host;
    return found;
}

// ---- computing

CardBackend * backend_of(ggml_backend_t backend) { return static_cast<CardBackend *>(backend->context); }
const char * backend_name(ggml_backend_t backend) { return backend_of(backend)->card->name.c_str(); }

void backend_free(ggml_backend_t backend) {
    if (backend_of(backend)->cpu) ggml_backend_free(backend_of(backend)->cpu);
    delete backend_of(backend);
    delete backend;
}

bool is_weight(const ggml_tensor * tensor) {
    const ggml_backend_buffer_t buffer = tensor->view_src ? tensor->view_src->buffer : tensor->buffer;
    return buffer && buffer->usage == GGML_BACKEND_BUFFER_USAGE_WEIGHTS;
}

void count(Card * card, const ggml_tensor * node) {
    card->nodes++;
    if (node->op == GGML_OP_MUL_MAT && is_weight(node->src[0])) {
        card->weight_bytes += ggml_nbytes(node->src[0]);
    } else if (node->op == GGML_OP_MUL_MAT_ID && is_weight(node->src[0])) {
        const int64_t used = node->src[2]->ne[0] * node->src[2]->ne[1];
        const int64_t all = node->src[0]->ne[2];
        card->weight_bytes += ggml_nbytes(node->src[0]) / all * (used < all ? used : all);
    } else if (node->op == GGML_OP_FLASH_ATTN_EXT) {
        card->kv_bytes += ggml_nbytes(node->src[1]) + ggml_nbytes(node->src[2]);
    }
}

ggml_status backend_compute(ggml_backend_t backend, ggml_cgraph * graph) {
    Card * card = backend_of(backend)->card;
    card->graphs++;
    for (int i = 0; i < ggml_graph_n_nodes(graph); i++) count(card, ggml_graph_node(graph, i));
    if (pause_us) usleep(pause_us);
    return discards ? GGML_STATUS_SUCCESS : ggml_backend_graph_compute(backend_of(backend)->cpu, graph);
}

void backend_synchronize(ggml_backend_t) {}
void event_record(ggml_backend_t, ggml_backend_event_t) {}
void event_wait(ggml_backend_t, ggml_backend_event_t) {}

ggml_backend_i backend_interface() {
    ggml_backend_i found = {};
    found.get_name = backend_name;
    found.free = backend_free;
    found.synchronize = backend_synchronize;
    found.graph_compute = backend_compute;
    found.event_record = event_record;
    found.event_wait = event_wait;
    return found;
}

// ---- a card

const char * device_name(ggml_backend_dev_t device) { return card_of(device)->name.c_str(); }
const char * device_description(ggml_backend_dev_t device) { return card_of(device)->description.c_str(); }
enum ggml_backend_dev_type device_type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; }
ggml_backend_buffer_type_t device_buffer_type(ggml_backend_dev_t device) { return &card_of(device)->buffer_type; }
ggml_backend_buffer_type_t device_pinned_type(ggml_backend_dev_t) { return &pinned_type; }

void device_memory(ggml_backend_dev_t device, size_t * free, size_t * total) {
    *free = card_of(device)->free - card_of(device)->used;
    *total = card_of(device)->total;
}

void device_properties(ggml_backend_dev_t device, ggml_backend_dev_props * found) {
    found->name = device_name(device);
    found->description = device_description(device);
    found->type = device_type(device);
    found->device_id = card_of(device)->bus.c_str();
    device_memory(device, &found->memory_free, &found->memory_total);
    // Field by field: their number grows without a new version of the interface.
    found->caps = {};
    found->caps.async = true;
    found->caps.host_buffer = true;
    found->caps.events = true;
}

ggml_backend_t device_start(ggml_backend_dev_t device, const char *) {
    static ggml_guid guid = {0xfa, 0xce, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
    ggml_backend_t cpu = discards ? nullptr : ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    return new ggml_backend{&guid, backend_interface(), device, new CardBackend{card_of(device), cpu}};
}

// fattn.cu, ggml_cuda_get_best_fattn_kernel: lengths of heads that there is a kernel for.
bool has_attention_kernel(int64_t keys, int64_t values) {
    switch (keys) {
        case 40:
        case 64:
        case 72:
        case 80:
        case 96:
        case 112:
        case 128:
        case 256:
        case 512:
            return values == keys;
        case 192:
            return values == 128;
        case 576:
            return values == 512;
        default:
            return false;
    }
}

bool device_supports(ggml_backend_dev_t device, const ggml_tensor * node) {
    for (const ggml_tensor * source : node->src) {
        const bool is_elsewhere = source && source->buffer && is_on_card(source->buffer->buft) &&
                                  source->buffer->buft->device != device;
        if (is_elsewhere) return false;
    }
    return node->op != GGML_OP_FLASH_ATTN_EXT || has_attention_kernel(node->src[1]->ne[0], node->src[2]->ne[0]);
}

bool device_reads(ggml_backend_dev_t device, ggml_backend_buffer_type_t type) {
    return is_on_card(type) && type->device == device;
}

int64_t batch_of(const ggml_tensor * node) {
    switch (node->op) {
        case GGML_OP_GET_ROWS:
            return 0;
        case GGML_OP_MUL_MAT:
            return node->ne[1];
        case GGML_OP_MUL_MAT_ID:
        case GGML_OP_ROPE:
        case GGML_OP_ROPE_BACK:
            return node->ne[2];
        default:
            return ggml_nrows(node);
    }
}

bool device_takes_over(ggml_backend_dev_t, const ggml_tensor * node) {
    const char * least = getenv("GGML_OP_OFFLOAD_MIN_BATCH");
    return batch_of(node) >= (least ? atoll(least) : LEAST_BATCH_TAKEN_OVER);
}

ggml_backend_event_t event_make(ggml_backend_dev_t device) { return new ggml_backend_event{device, nullptr}; }
void event_free(ggml_backend_dev_t, ggml_backend_event_t event) { delete event; }
void event_synchronize(ggml_backend_dev_t, ggml_backend_event_t) {}

ggml_backend_device_i device_interface() {
    ggml_backend_device_i found = {};
    found.get_name = device_name;
    found.get_description = device_description;
    found.get_memory = device_memory;
    found.get_type = device_type;
    found.get_props = device_properties;
    found.init_backend = device_start;
    found.get_buffer_type = device_buffer_type;
    found.get_host_buffer_type = device_pinned_type;
    found.supports_op = device_supports;
    found.supports_buft = device_reads;
    found.offload_op = device_takes_over;
    found.event_new = event_make;
    found.event_free = event_free;
    found.event_synchronize = event_synchronize;
    return found;
}

// ---- all cards

const char * registry_name(ggml_backend_reg_t) { return "CUDA"; }
size_t registry_count(ggml_backend_reg_t) { return cards.size(); }
ggml_backend_dev_t registry_device(ggml_backend_reg_t, size_t index) { return &cards[index]->device; }
void * registry_address(ggml_backend_reg_t, const char *) { return nullptr; }

std::vector<std::string> pieces(const std::string & text, char between) {
    std::vector<std::string> found;
    std::istringstream stream(text);
    for (std::string piece; std::getline(stream, piece, between);) found.push_back(piece);
    return found;
}

// A word of CUDA_VISIBLE_DEVICES is a card's index or its UUID.
size_t meant(const std::string & word, const std::vector<std::string> & rows) {
    for (size_t i = 0; i < rows.size(); i++) {
        const std::vector<std::string> facts = pieces(rows[i], ':');
        if (facts.size() == 5 && facts[4] == word) return i;
    }
    char * end = nullptr;
    const unsigned long index = strtoul(word.c_str(), &end, 10);
    return end == word.c_str() ? rows.size() : index;
}

std::vector<size_t> visible(const std::vector<std::string> & rows) {
    std::vector<size_t> found;
    const char * chosen = getenv("CUDA_VISIBLE_DEVICES");
    if (!chosen) {
        for (size_t i = 0; i < rows.size(); i++) found.push_back(i);
        return found;
    }
    for (const std::string & word : pieces(chosen, ',')) {
        const size_t index = meant(word, rows);
        // CUDA ends the list at the first word that it does not understand.
        if (index >= rows.size()) break;
        found.push_back(index);
    }
    return found;
}

void add_card(const std::string & row, size_t slot) {
    const std::vector<std::string> facts = pieces(row, ':');
    if (facts.size() < 4) return;
    auto card = std::make_unique<Card>();
    card->index = static_cast<int>(cards.size());
    card->name = "CUDA" + std::to_string(card->index);
    card->description = facts[0];
    card->capability = atoi(facts[1].c_str());
    card->total = strtoull(facts[2].c_str(), nullptr, 10) * MIB;
    card->free = strtoull(facts[3].c_str(), nullptr, 10) * MIB;
    char bus[32];
    snprintf(bus, sizeof bus, "0000:%02zx:00.0", slot + 1);
    card->bus = bus;
    card->device = {device_interface(), &registry, card.get()};
    card->buffer_type = {type_interface(), &card->device, card.get()};
    fprintf(stderr, "  Device %d: %s, compute capability %d.%d, VMM: yes, VRAM: %zu MiB\n", card->index,
            card->description.c_str(), card->capability / 100, card->capability / 10 % 10, card->total / MIB);
    cards.push_back(std::move(card));
}

struct Statistics {
    ~Statistics() {
        const char * path = getenv("FAKECUDA_STATS");
        FILE * file = path ? fopen(path, "a") : nullptr;
        if (!file) return;
        for (const auto & card : cards) {
            fprintf(file,
                    "%s graphs=%zu nodes=%zu weight_bytes=%zu kv_bytes=%zu from_host=%zu/%zu to_host=%zu/%zu "
                    "between=%zu/%zu peak=%zu\n",
                    card->name.c_str(), card->graphs, card->nodes, card->weight_bytes, card->kv_bytes,
                    card->from_host.count, card->from_host.bytes, card->to_host.count, card->to_host.bytes,
                    card->between.count, card->between.bytes, card->peak);
        }
        fclose(file);
    }
};
// Behind the cards: it ends before them.
Statistics statistics;

void find_cards() {
    discards = getenv("FAKECUDA_DISCARD") != nullptr;
    const char * pause = getenv("FAKECUDA_PAUSE_US");
    pause_us = pause ? strtoul(pause, nullptr, 10) : 0;
    const char * written = getenv("FAKECUDA");
    const std::vector<std::string> rows = pieces(written ? written : DEFAULT_CARDS, ';');
    const std::vector<size_t> chosen = visible(rows);
    fprintf(stderr, "ggml_cuda_init: found %zu CUDA devices:\n", chosen.size());
    for (size_t slot : chosen) add_card(rows[slot], slot);
    if (!cards.empty()) pinned_type = {pinned_interface(), &cards[0]->device, nullptr};
    registry = {GGML_BACKEND_API_VERSION, {registry_name, registry_count, registry_device, registry_address}, nullptr};
}

}  // namespace

extern "C" __attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init(void) {
    static const bool once = (find_cards(), true);
    (void) once;
    return &registry;
}
