/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ZCLAB_VERSION_H
#define ZCLAB_VERSION_H

#define ZCLAB_TRAFFIC_VERSION "0.1.0"

#endif
