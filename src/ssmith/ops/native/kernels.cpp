// All kernels at one instruction set level. This file is compiled once per level, with
// SSMITH_LEVEL naming the table it defines; nothing else in it has a name outside the file.
#include "abi.h"
#include "conv.h"
#include "diagonal.h"
#include "mixer_step.h"
#include "scan_backward.h"
#include "scan_forward.h"
#include "scan_in_step.h"
#include "scan_statistics.h"
#include "ssd_backward.h"
#include "ssd_forward.h"
#include "step.h"
#include "votes.h"

extern "C" const Kernels SSMITH_LEVEL;
extern "C" const Kernels SSMITH_LEVEL = {
    scan_forward, scan_backward,   conv_forward, conv_backward, step,        diagonal,
    scan_statistics, scan_in_step, votes,        mixer_step,    ssd_forward, ssd_backward,
};
