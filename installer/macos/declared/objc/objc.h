// Of Objective-C what the app's dependencies name, so that they compile where no Mac is: see ../README.
#pragma once
#if __OBJC_BOOL_IS_BOOL
typedef bool BOOL;
#else
typedef signed char BOOL;
#endif
#define YES __objc_yes
#define NO __objc_no
#define nil ((void *)0)
