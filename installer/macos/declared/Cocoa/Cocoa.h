#pragma once
#import <Foundation/Foundation.h>
@interface NSImage : NSObject
- (instancetype)initWithContentsOfURL:(NSURL *)url;
@end
