/* What <features.h> includes in i386 programs; the C library here has no functions that only fail. */
