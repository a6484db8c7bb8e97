// What adapters add to a site of a step.
#pragma once

#include "lora_work.h"

// y[row] += (x[row] A^T) B for all rows of the plan.
void add_adapters(Work *work);
