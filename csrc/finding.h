/* finding.h - what can be odd about a file; codes, severities and sentences are in defs/findings.def. */
#ifndef PTH_FINDING_H
#define PTH_FINDING_H

enum pth_finding {
  PTH_F_NOTHING = 0,
#define X(NAME, code, severity, text) PTH_F_##NAME,
#include "defs/findings.def"
#undef X
  PTH_N_FINDINGS
};

#endif
