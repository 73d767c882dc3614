#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <objc/objc.h>
typedef long NSInteger;
typedef unsigned long NSUInteger;
@class NSString;
@protocol NSObject
- (id)retain;
- (oneway void)release;
- (id)autorelease;
@end
__attribute__((objc_root_class)) @interface NSObject <NSObject>
+ (id)alloc;
- (id)init;
- (id)valueForKey:(NSString *)key;
- (void)setValue:(id)value forKey:(NSString *)key;
@end
