/* An NVML that says of each card why it is slow, from the variable FAKE_NVML_HOT: "UUID=REASONS;UUID=!ERROR".
 *
 * Names, bits and error numbers are those of NVIDIA's nvml.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    return getenv("FAKE_NVML_HOT") ? SUCCESS : DRIVER_NOT_LOADED;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int error) {
    static char text[32];
    snprintf(text, sizeof text, "error %d", error);
    return text;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, const char **handle) {
    *handle = strstr(getenv("FAKE_NVML_HOT"), uuid);
    return *handle ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, const char **handle) {
    return nvmlDeviceGetHandleByUUID(bus_id, handle);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(const char *handle, unsigned long long *reasons) {
    const char *told = strchr(handle, '=') + 1;
    if (*told == '!') return atoi(told + 1);
    *reasons = strtoull(told, NULL, 0);
    return SUCCESS;
}
