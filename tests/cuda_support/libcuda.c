/* Fixture of libcuda.so.1: one GPU that is not there. What it answers stands in /run/fixture-gpu:
   init and context hold the error of cuInit and of cuCtxCreate, count the number of GPUs; 0, 0 and 1 without them.
   /run/fixture-reload/init comes first: a folder that a daemon-reload takes away. */
typedef unsigned long size_t;
typedef int CUresult;
extern int open(const char *path, int flags, ...);
extern long read(int file, void *buffer, size_t size);
extern int close(int file);

static int told(const char *path, int otherwise)
{
    char text[8];
    int file = open(path, 0), value = 0, i;
    long length;
    if (file < 0)
        return otherwise;
    length = read(file, text, sizeof text);
    close(file);
    for (i = 0; i < length && text[i] >= '0' && text[i] <= '9'; i++)
        value = value * 10 + text[i] - '0';
    return value;
}

CUresult cuInit(unsigned flags) { return told("/run/fixture-reload/init", told("/run/fixture-gpu/init", 0)); }
CUresult cuDriverGetVersion(int *version) { *version = 13000; return 0; }
CUresult cuDeviceGetCount(int *count) { *count = told("/run/fixture-gpu/count", 1); return *count ? 0 : 100; }
CUresult cuDeviceGet(int *device, int index) { *device = index; return 0; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 85520809984UL; return 0; }
CUresult cuCtxCreate_v2(void **context, unsigned flags, int device) { *context = 0; return told("/run/fixture-gpu/context", 0); }
CUresult cuCtxDestroy_v2(void *context) { return 0; }

CUresult cuDeviceGetName(char *name, int size, int device)
{
    const char *text = "Fixture of an H100";
    int i = 0;
    do name[i] = text[i]; while (text[i++] && i < size);
    return 0;
}

CUresult cuDeviceGetUuid(unsigned char *uuid, int device)
{
    int i;
    for (i = 0; i < 16; i++)
        uuid[i] = (unsigned char)(i + device);
    return 0;
}
