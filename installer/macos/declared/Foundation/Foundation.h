#pragma once
#include <limits.h>
#include <string.h>
#include <dispatch/dispatch.h>
#include <objc/NSObject.h>
typedef double NSTimeInterval;
typedef const struct __CFString *CFStringRef;
typedef const struct __CFArray *CFArrayRef;
typedef struct __CFError *CFErrorRef;
@class NSArray, NSDate, NSImage;
typedef NSString *NSRunLoopMode;
extern NSRunLoopMode const NSDefaultRunLoopMode;
extern NSString *const NSUserNotificationDefaultSoundName;

@interface NSString : NSObject
@property(readonly) NSUInteger length;
@property(readonly) double doubleValue;
@property(readonly) const char *UTF8String;
+ (instancetype)stringWithFormat:(NSString *)format, ...;
- (BOOL)isEqualToString:(NSString *)other;
- (NSArray *)componentsSeparatedByString:(NSString *)separator;
@end
@interface NSAttributedString : NSObject
@property(readonly) NSString *string;
@end
@interface NSNumber : NSObject
@property(readonly) unsigned long long unsignedLongLongValue;
+ (NSNumber *)numberWithBool:(BOOL)value;
+ (NSNumber *)numberWithInt:(int)value;
@end
typedef struct {
    unsigned long state;
    id *itemsPtr;
    unsigned long *mutationsPtr;
    unsigned long extra[5];
} NSFastEnumerationState;
@interface NSArray : NSObject
@property(readonly) NSUInteger count;
- (id)objectAtIndexedSubscript:(NSUInteger)index;
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState *)state objects:(id *)buffer count:(NSUInteger)length;
@end
@interface NSDictionary : NSObject
- (id)objectForKeyedSubscript:(id)key;
@end
@interface NSData : NSObject
@property(readonly) const void *bytes;
+ (instancetype)dataWithBytes:(const void *)bytes length:(NSUInteger)length;
@end
@interface NSDate : NSObject
@property(readonly) NSTimeInterval timeIntervalSinceNow;
+ (instancetype)date;
+ (instancetype)dateWithTimeIntervalSince1970:(NSTimeInterval)seconds;
+ (instancetype)dateWithTimeIntervalSinceNow:(NSTimeInterval)seconds;
@end
@interface NSURL : NSObject
@property(readonly) NSString *scheme;
+ (instancetype)URLWithString:(NSString *)text;
+ (NSURL *)fileURLWithPath:(NSString *)path;
@end
@interface NSUUID : NSObject
@property(readonly) NSString *UUIDString;
- (instancetype)initWithUUIDString:(NSString *)text;
- (instancetype)initWithUUIDBytes:(const unsigned char *)bytes;
- (void)getUUIDBytes:(unsigned char *)bytes;
@end
@interface NSBundle : NSObject
@property(class, readonly) NSBundle *mainBundle;
@property(readonly) NSString *bundleIdentifier;
@end
@interface NSThread : NSObject
@property(class, readonly) BOOL isMainThread;
@end
@interface NSTimer : NSObject
+ (NSTimer *)timerWithTimeInterval:(NSTimeInterval)every repeats:(BOOL)repeats block:(void (^)(NSTimer *))block;
- (void)invalidate;
@end
@interface NSRunLoop : NSObject
@property(class, readonly) NSRunLoop *currentRunLoop;
@property(class, readonly) NSRunLoop *mainRunLoop;
- (void)addTimer:(NSTimer *)timer forMode:(NSRunLoopMode)mode;
- (void)runUntilDate:(NSDate *)date;
@end
@interface NSAppleEventDescriptor : NSObject
@property(readonly) NSString *stringValue;
@end
@interface NSAppleScript : NSObject
- (instancetype)initWithSource:(NSString *)source;
- (NSAppleEventDescriptor *)executeAndReturnError:(NSDictionary **)error;
@end

typedef enum : NSInteger {
    NSUserNotificationActivationTypeNone = 0,
    NSUserNotificationActivationTypeContentsClicked = 1,
    NSUserNotificationActivationTypeActionButtonClicked = 2,
    NSUserNotificationActivationTypeReplied = 3,
    NSUserNotificationActivationTypeAdditionalActionClicked = 4,
} NSUserNotificationActivationType;
@interface NSUserNotification : NSObject
@property(copy) NSString *identifier, *title, *subtitle, *informativeText, *soundName;
@property(copy) NSString *actionButtonTitle, *otherButtonTitle, *responsePlaceholder;
@property(copy) NSDate *deliveryDate;
@property BOOL hasActionButton, hasReplyButton;
@property(copy) NSImage *contentImage;
@property(readonly) NSUserNotificationActivationType activationType;
@property(readonly, copy) NSAttributedString *response;
@end
@class NSUserNotificationCenter;
@protocol NSUserNotificationCenterDelegate <NSObject>
@optional
- (void)userNotificationCenter:(NSUserNotificationCenter *)center didDeliverNotification:(NSUserNotification *)notification;
- (void)userNotificationCenter:(NSUserNotificationCenter *)center didActivateNotification:(NSUserNotification *)notification;
@end
@interface NSUserNotificationCenter : NSObject
@property(class, readonly) NSUserNotificationCenter *defaultUserNotificationCenter;
@property(assign) id<NSUserNotificationCenterDelegate> delegate;
@property(readonly, copy) NSArray *deliveredNotifications;
- (void)scheduleNotification:(NSUserNotification *)notification;
- (void)deliverNotification:(NSUserNotification *)notification;
- (void)removeDeliveredNotification:(NSUserNotification *)notification;
@end
