#pragma once
#include <objc/objc.h>
typedef struct objc_method *Method;
Class objc_getClass(const char *name);
Method class_getInstanceMethod(Class of, SEL name);
void method_exchangeImplementations(Method one, Method other);
