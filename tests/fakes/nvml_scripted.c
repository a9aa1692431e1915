/* An NVML whose cards come, go, fail and change while a program runs: it reads the file FAKE_NVML_SCRIPT at each question.
 *
 *   init 999                                          nvmlInit fails with that error
 *   attach                                            cards are found only by those who attach them (no NO_ATTACH)
 *   hold                                              each question waits as long as the script says so
 *   card uuid=GPU-… pci=0000:04:00.0 total=… used=…   a card; in any order, without what it does not support
 *        reserved=…                                   what the driver keeps for itself: `used` is beside it
 *        events=0                                     it reports no XIDs
 *        mig=1 error=15                               divided; or whatever is asked of it is that error
 *   process card=GPU-… pid=… bytes=… name=…           a process that computes; without bytes it is not counted
 *   drawing card=GPU-… pid=… bytes=… name=…           one that draws
 *   event card=GPU-… xid=…                            reported to whoever listens to that card when the line comes
 *   deaf 999                                          waiting for events fails with that error
 *
 * What was asked is appended to FAKE_NVML_LOG: `init <flags>`, `open <uuid>`, `listen <uuid>`, `shutdown`.
 * Structures, names and error numbers are those of NVIDIA's nvml.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SUCCESS = 0, UNINITIALIZED = 1, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10, CARDS = 8,
    PROCESSES = 16, EVENTS = 64, XID = 8, OTHER_EVENTS = 1, NO_ATTACH = 2, WORD = 128
};

typedef struct {
    char uuid[WORD], pci[WORD], total[WORD], used[WORD], reserved[WORD], mig[WORD], error[WORD], events[WORD];
} card;
typedef struct { char card[WORD], pid[WORD], bytes[WORD], name[WORD]; int draws; } process;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; } process_info;
typedef struct { char legacy[16]; unsigned domain, bus, device, device_id, subsystem_id; char bus_id[32]; } pci_info;
typedef struct { char card[WORD], xid[WORD]; } event;
typedef struct { char *device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } event_data;
typedef struct {
    int attach, hold, init, deaf, card_count, process_count, event_count;
    card cards[CARDS];
    process processes[PROCESSES];
    event events[EVENTS];
} script;

/* Where the library is installed for all programs, there is no variable. */
static const char INSTALLED_SCRIPT[] = "/run/fake-nvml/script";

static __thread script told; /* of each thread its own: a program may ask on several */
static unsigned flags_of_init;
static int heard, is_listened_to[CARDS]; /* lines of events that were heard or are of the past; by handle */
static char handles[CARDS][WORD]; /* by UUID: a card that goes and comes back keeps its handle */

static void keep(char *field, const char *word, const char *key) {
    size_t length = strlen(key);
    if (!strncmp(word, key, length) && word[length] == '=') snprintf(field, WORD, "%s", word + length + 1);
}

static void read_line(char *line) {
    char *rest = line, *word, *first = strsep(&rest, " \n");
    card *new = &told.cards[told.card_count];
    process *one = &told.processes[told.process_count];
    if (!strcmp(first, "attach")) told.attach = 1;
    if (!strcmp(first, "hold")) told.hold = 1;
    if (!strcmp(first, "init")) told.init = atoi(rest);
    if (!strcmp(first, "deaf")) told.deaf = atoi(rest);
    if (!strcmp(first, "event") && told.event_count < EVENTS) {
        event *seen = &told.events[told.event_count++];
        while ((word = strsep(&rest, " \n"))) keep(seen->card, word, "card"), keep(seen->xid, word, "xid");
    }
    if (!strcmp(first, "card") && told.card_count < CARDS) {
        told.card_count++;
        while ((word = strsep(&rest, " \n"))) {
            keep(new->uuid, word, "uuid"), keep(new->pci, word, "pci"), keep(new->total, word, "total");
            keep(new->used, word, "used"), keep(new->reserved, word, "reserved"), keep(new->mig, word, "mig");
            keep(new->error, word, "error"), keep(new->events, word, "events");
        }
    }
    if ((!strcmp(first, "process") || !strcmp(first, "drawing")) && told.process_count < PROCESSES) {
        told.process_count++, one->draws = *first == 'd';
        while ((word = strsep(&rest, " \n"))) {
            keep(one->card, word, "card"), keep(one->pid, word, "pid"), keep(one->bytes, word, "bytes");
            keep(one->name, word, "name");
        }
    }
}

static void read_script(void) {
    do {
        char line[1024];
        const char *name = getenv("FAKE_NVML_SCRIPT");
        FILE *file = fopen(name ? name : INSTALLED_SCRIPT, "r");
        if (told.hold) usleep(2000);
        memset(&told, 0, sizeof told);
        while (file && fgets(line, sizeof line, file)) read_line(line);
        if (file) fclose(file);
    } while (told.hold);
}

static void note(const char *what, const char *which) {
    const char *name = getenv("FAKE_NVML_LOG");
    FILE *file = name ? fopen(name, "a") : NULL;
    if (file) fprintf(file, "%s %s\n", what, which), fclose(file);
}

int nvmlInitWithFlags(unsigned flags) {
    char text[16];
    read_script();
    snprintf(text, sizeof text, "%u", flags);
    note("init", text);
    flags_of_init = flags;
    return told.init;
}

int nvmlShutdown(void) { note("shutdown", ""); return SUCCESS; }

const char *nvmlErrorString(int error) {
    static char text[32];
    snprintf(text, sizeof text, "error %d", error);
    return text;
}

static card *card_of(const char *handle) {
    read_script();
    for (int index = 0; index < told.card_count; index++)
        if (!strcmp(told.cards[index].uuid, handle)) return &told.cards[index];
    return NULL;
}

/* What an opened card says: a card that has gone since is lost. */
static int asked(const char *handle, card **found) {
    *found = card_of(handle);
    if (!*found) return 15;
    return *(*found)->error ? atoi((*found)->error) : SUCCESS;
}

static int open_card(const card *found, char **handle) {
    if (!found || (told.attach && flags_of_init & NO_ATTACH)) return NOT_FOUND;
    note("open", found->uuid);
    for (int index = 0; index < CARDS; index++) {
        if (!*handles[index]) snprintf(handles[index], WORD, "%s", found->uuid);
        if (!strcmp(handles[index], found->uuid)) {
            *handle = handles[index];
            return *found->error ? atoi(found->error) : SUCCESS;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, char **handle) { return open_card(card_of(uuid), handle); }

int nvmlDeviceGetHandleByPciBusId_v2(const char *address, char **handle) {
    read_script();
    for (int index = 0; index < told.card_count; index++)
        if (!strcmp(told.cards[index].pci, address)) return open_card(&told.cards[index], handle);
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(const char *handle, char *buffer, unsigned length) {
    card *found;
    int error = asked(handle, &found);
    if (!error) snprintf(buffer, length, "%s", found->uuid);
    return error;
}

int nvmlDeviceGetPciInfo_v3(const char *handle, pci_info *info) {
    card *found;
    int error = asked(handle, &found);
    memset(info, 0, sizeof *info);
    if (!error) snprintf(info->bus_id, sizeof info->bus_id, "0000%.27s", found->pci);
    return error;
}

int nvmlDeviceGetMigMode(const char *handle, unsigned *current, unsigned *pending) {
    card *found;
    int error = asked(handle, &found);
    if (!error) *current = *pending = (unsigned)atoi(found->mig);
    return error ? error : *found->mig ? SUCCESS : NOT_SUPPORTED;
}

static unsigned long long number(const char *text) { return strtoull(text, NULL, 10); }

int nvmlDeviceGetMemoryInfo(const char *handle, memory *info) {
    card *found;
    int error = asked(handle, &found);
    if (error || !*found->total) return error ? error : NOT_SUPPORTED;
    info->total = number(found->total), info->used = number(found->used) + number(found->reserved);
    info->free = info->total - info->used;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(const char *handle, memory_v2 *info) {
    card *found;
    int error = asked(handle, &found);
    if (error || !*found->total || !*found->reserved) return error ? error : NOT_SUPPORTED;
    info->total = number(found->total), info->used = number(found->used), info->reserved = number(found->reserved);
    info->free = info->total - info->used - info->reserved;
    return SUCCESS;
}

static int listed(const char *handle, int draws, unsigned *count, process_info *info) {
    card *found;
    int error = asked(handle, &found);
    unsigned room = info ? *count : 0, at = 0;
    if (error) return error;
    for (int index = 0; index < told.process_count; index++) {
        process *one = &told.processes[index];
        if (one->draws != draws || strcmp(one->card, handle)) continue;
        if (at < room)
            info[at] = (process_info){(unsigned)number(one->pid), *one->bytes ? number(one->bytes) : ~0ULL, ~0U, ~0U};
        at++;
    }
    *count = at;
    return at > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(const char *handle, unsigned *count, process_info *info) {
    return listed(handle, 0, count, info);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(const char *handle, unsigned *count, process_info *info) {
    return listed(handle, 1, count, info);
}

int nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length) {
    read_script();
    for (int index = 0; index < told.process_count; index++)
        if (number(told.processes[index].pid) == pid && *told.processes[index].name) {
            snprintf(name, length, "%s", told.processes[index].name);
            return SUCCESS;
        }
    return NOT_FOUND;
}

int nvmlEventSetCreate(void **set) {
    read_script();
    heard = told.event_count;
    memset(is_listened_to, 0, sizeof is_listened_to);
    *set = &heard;
    return SUCCESS;
}

int nvmlEventSetFree(void *set) { (void)set; note("deaf", ""); return SUCCESS; }

int nvmlDeviceGetSupportedEventTypes(const char *handle, unsigned long long *types) {
    card *found;
    int error = asked(handle, &found);
    *types = error || *found->events ? 0 : XID | OTHER_EVENTS;
    return error;
}

int nvmlDeviceRegisterEvents(const char *handle, unsigned long long types, void *set) {
    card *found;
    int error = asked(handle, &found);
    (void)set;
    if (error || types != XID) return error ? error : NOT_SUPPORTED;
    note("listen", handle);
    is_listened_to[(handle - *handles) / WORD] = 1;
    return SUCCESS;
}

/* The event of the next line, if it is of a card that is listened to. */
static int next_event(event_data *data) {
    const event *next = &told.events[heard++];
    for (int index = 0; index < CARDS; index++)
        if (is_listened_to[index] && !strcmp(handles[index], next->card)) {
            *data = (event_data){handles[index], XID, number(next->xid), ~0U, ~0U};
            return 1;
        }
    return 0;
}

int nvmlEventSetWait_v2(void *set, event_data *data, unsigned timeout_ms) {
    (void)set;
    for (unsigned waited_ms = 0;; waited_ms += 10) {
        read_script();
        if (told.deaf) return told.deaf;
        while (heard < told.event_count)
            if (next_event(data)) return SUCCESS;
        if (waited_ms >= timeout_ms) return TIMEOUT;
        usleep(10000);
    }
}
