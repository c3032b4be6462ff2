/* A library that does nothing: what a program does with it is the loader's doing. */
int vmware_bdwrapper_nothing;
