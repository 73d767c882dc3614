#pragma once
#import <Foundation/Foundation.h>
CFArrayRef LSCopyApplicationURLsForBundleIdentifier(CFStringRef identifier, CFErrorRef *error);
