package queue

import "unsafe"

func pointer(gids []uint32) uintptr { return uintptr(unsafe.Pointer(&gids[0])) }
