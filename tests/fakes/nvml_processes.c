/* The small NVML of nvml.c, with processes on its cards, from the variable FAKE_NVML_PROCESSES.
 *
 *   FAKE_NVML_PROCESSES="0:4711:1048576;1:4711:"     card, pid, bytes; without bytes the driver does not count them
 *   FAKE_NVML_PROCESSES="0:!4"                       the card's processes cannot be asked for: that error
 *
 * nvmlProcessInfo_t, and the call that is made twice, are those of NVIDIA's nvml.h.
 */
#include "nvml.c"

enum { INSUFFICIENT_SIZE = 7 };

typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; } process;

int nvmlDeviceGetComputeRunningProcesses_v3(card *handle, unsigned *number, process *found) {
    const char *told = getenv("FAKE_NVML_PROCESSES");
    char *rest = strdup(told ? told : ""), *text;
    unsigned room = found ? *number : 0, at = 0;
    while ((text = strsep(&rest, ";")) && *text) {
        char *index = strsep(&text, ":"), *pid = strsep(&text, ":");
        if (strtoul(index, NULL, 10) != (unsigned long)(handle - cards)) continue;
        if (*pid == '!') return atoi(pid + 1);
        if (at < room) {
            unsigned long long bytes = text && *text ? strtoull(text, NULL, 10) : ~0ULL;
            found[at] = (process){(unsigned)strtoul(pid, NULL, 10), bytes, ~0U, ~0U};
        }
        at++;
    }
    *number = at;
    return at > room ? INSUFFICIENT_SIZE : SUCCESS;
}
