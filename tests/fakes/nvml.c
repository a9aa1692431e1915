/* A small NVML: answers what nvidia-ml-py asks of libnvidia-ml.so.1, from the variable FAKE_NVML.
 *
 *   FAKE_NVML="999"                                  nvmlInit fails with that error
 *   FAKE_NVML="CARD;CARD"                            a card each, in NVML's order
 *   CARD = "name|uuid|bus id|bytes|MHz|bits|8.6|0"   the last is the MIG mode; an empty field is not supported
 *                                                   one more may follow: the bytes in use
 *   CARD = "!15"                                     the card cannot be opened: that error
 *
 * Structures, names and error numbers are those of NVIDIA's nvml.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, FIELDS = 9, CARDS = 16 };
enum { NAME, UUID, BUS_ID, BYTES, CLOCK_MHZ, WIDTH_BITS, CAPABILITY, MIG, USED };

typedef struct { char *field[FIELDS]; } card;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { char legacy[16]; unsigned domain, bus, device, device_id, subsystem_id; char bus_id[32]; } pci;

static card cards[CARDS];
static unsigned count;

int nvmlInitWithFlags(unsigned flags) {
    const char *told = getenv("FAKE_NVML");
    char *rest = strdup(told ? told : ""), *text;
    (void)flags;
    if (*rest && !strpbrk(rest, "|;!")) return atoi(rest);
    for (count = 0; (text = strsep(&rest, ";")) && *text && count < CARDS; count++)
        for (int index = 0; index < FIELDS; index++) {
            char *field = strsep(&text, "|");
            cards[count].field[index] = field ? field : "";
        }
    return SUCCESS;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int error) {
    static char text[32];
    snprintf(text, sizeof text, "error %d", error);
    return text;
}

int nvmlDeviceGetCount_v2(unsigned *number) { *number = count; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, card **handle) {
    if (index >= count) return INVALID_ARGUMENT;
    *handle = &cards[index];
    return *cards[index].field[NAME] == '!' ? atoi(cards[index].field[NAME] + 1) : SUCCESS;
}

static int text_of(card *handle, int field, char *buffer, unsigned length) {
    snprintf(buffer, length, "%s", handle->field[field]);
    return *buffer ? SUCCESS : NOT_SUPPORTED;
}

static int number_of(card *handle, int field, unsigned *number) {
    *number = (unsigned)strtoul(handle->field[field], NULL, 10);
    return *handle->field[field] ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetName(card *handle, char *buffer, unsigned length) { return text_of(handle, NAME, buffer, length); }
int nvmlDeviceGetUUID(card *handle, char *buffer, unsigned length) { return text_of(handle, UUID, buffer, length); }

int nvmlDeviceGetPciInfo_v3(card *handle, pci *info) {
    memset(info, 0, sizeof *info);
    return text_of(handle, BUS_ID, info->bus_id, sizeof info->bus_id);
}

int nvmlDeviceGetMemoryInfo(card *handle, memory *info) {
    info->total = strtoull(handle->field[BYTES], NULL, 10);
    info->used = strtoull(handle->field[USED], NULL, 10);
    info->free = info->total - info->used;
    return *handle->field[BYTES] ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetMaxClockInfo(card *handle, int clock, unsigned *mhz) {
    return clock == 2 ? number_of(handle, CLOCK_MHZ, mhz) : INVALID_ARGUMENT; /* NVML_CLOCK_MEM */
}

int nvmlDeviceGetMemoryBusWidth(card *handle, unsigned *bits) { return number_of(handle, WIDTH_BITS, bits); }

int nvmlDeviceGetCudaComputeCapability(card *handle, int *major, int *minor) {
    return sscanf(handle->field[CAPABILITY], "%d.%d", major, minor) == 2 ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetMigMode(card *handle, unsigned *current, unsigned *pending) {
    *pending = 0;
    return number_of(handle, MIG, current);
}
