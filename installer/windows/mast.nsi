; The installer for Windows, per machine: installer/build exe makes it, with VERSION, FILES (a folder), OUT and SIZE.
;
;   mast-VERSION-x64.exe [/S] [/D=DIRECTORY]        /S: asks nothing
;   uninstall.exe [/S] [/KEYS]                      /KEYS: keys, peers, settings and the log go, too
;
; Every step may be done again: a second run mends what one that was interrupted left. What is in use is renamed away, so
; that the service and the app run on until the new one starts; what cannot go at once goes with the next start.
; Exit codes: 0 done; 1 given up by the user; 2 failed, and said why: with /S in %TEMP%\mast-installer.txt.
Unicode true
Target amd64-unicode
ManifestDPIAware true
; Nobody but an administrator writes to the folder that the service's libraries are loaded from.
RequestExecutionLevel admin
SetCompressor /SOLID lzma
SetDateSave on

Name "MAST"
OutFile "${OUT}"
!ifdef SIGN
  !uninstfinalize '${SIGN} "%1"' = 0
!endif
Icon "${ICON}"
UninstallIcon "${ICON}"
InstallDir "$PROGRAMFILES64\MAST"
BrandingText "MAST ${VERSION}"
VIProductVersion "${VERSION}.0"
VIAddVersionKey /LANG=1033 "ProductName" "MAST"
VIAddVersionKey /LANG=1033 "FileDescription" "Installs MAST ${VERSION}"
VIAddVersionKey /LANG=1033 "FileVersion" "${VERSION}"
VIAddVersionKey /LANG=1033 "ProductVersion" "${VERSION}"
VIAddVersionKey /LANG=1033 "LegalCopyright" "Apache License 2.0 or MIT"

!include LogicLib.nsh
!include FileFunc.nsh
!include WinVer.nsh
!include x64.nsh

!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\MAST"
!define ENVIRONMENT "SYSTEM\CurrentControlSet\Control\Session Manager\Environment"
!define WEBVIEW "SOFTWARE\Microsoft\EdgeUpdate\Clients\{F3017226-FE2A-4295-8BDF-00C3A9A7E4C5}"
!define WEBVIEW32 "SOFTWARE\WOW6432Node\Microsoft\EdgeUpdate\Clients\{F3017226-FE2A-4295-8BDF-00C3A9A7E4C5}"
!define DATA "$APPDATA\MAST"
!define RULE "MAST"
!define EVENTS "SYSTEM\CurrentControlSet\Services\EventLog\Application\MAST"

Var KEYS

Page license
Page instfiles
UninstPage uninstConfirm
UninstPage instfiles
LicenseText "MAST is free software, under either of two licenses, as you choose." "Install"
LicenseData "${FILES}\LICENSE.txt"

; Says what is wrong, in a window, or without one in a file, and ends.
!macro fail text
  DetailPrint "${text}"
  ${If} ${Silent}
    FileOpen $R9 "$TEMP\mast-installer.txt" w
    FileWriteUTF16LE /BOM $R9 "${text}$\r$\n"
    FileClose $R9
  ${Else}
    MessageBox MB_OK|MB_ICONSTOP "${text}"
  ${EndIf}
  SetErrorLevel 2
  Abort "${text}"
!macroend

!macro prepare
  SetRegView 64
  SetShellVarContext all
!macroend

; Adds the folder to the search path of all users, or takes it away, whatever the path's length: strings of the installer
; are short, and a path that was cut would harm others. $R0 is the folder.
!macro search_path un
Function ${un}SearchPath
  ; $0 the key, $1 type, $2 size in bytes, $3 the text, $4 where it is in it, $5 what, $6 its length, $7 $8 spare
  StrCpy $5 ";$R0"
  StrLen $6 $5
  System::Call 'advapi32::RegOpenKeyExW(p 0x80000002, w "${ENVIRONMENT}", i 0, i 0x2011F, *p .r0) i .r7'
  ${If} $7 <> 0
    DetailPrint "The search path of programs cannot be changed (error $7)."
    Return
  ${EndIf}
  System::Call 'advapi32::RegQueryValueExW(p r0, w "Path", p 0, *i .r1, p 0, *i 0 r2) i .r7'
  ${If} $7 = 0
  ${AndIf} $2 < 1000000
    IntOp $7 $2 + 4096
    System::Call 'kernel32::GlobalAlloc(i 0x40, p r7) p .r3'
    System::Call 'advapi32::RegQueryValueExW(p r0, w "Path", p 0, *i .r1, p r3, *i r2 r2) i .r7'
    ; Each place where it stands, until one is a whole word.
    StrCpy $8 $3
    StrCpy $4 0
    ${Do}
      System::Call 'shlwapi::StrStrIW(p r8, w r5) p .r4'
      ${If} $4 = 0
        ${Break}
      ${EndIf}
      IntOp $8 $6 * 2
      IntOp $8 $4 + $8
      System::Call '*$8(&i2 .r7)'
      ${If} $7 = 0
      ${OrIf} $7 = 59
        ${Break}
      ${EndIf}
    ${Loop}
    StrCpy $9 ""
    !if "${un}" == ""
      ${If} $4 = 0
        System::Call 'kernel32::lstrcatW(p r3, w r5)'
        StrCpy $9 "changed"
      ${EndIf}
    !else
      ${If} $4 <> 0
        System::Call 'kernel32::lstrlenW(p r8) i .r7'
        IntOp $7 $7 * 2
        IntOp $7 $7 + 2
        System::Call 'kernel32::RtlMoveMemory(p r4, p r8, p r7)'
        StrCpy $9 "changed"
      ${EndIf}
    !endif
    ${If} $9 == "changed"
      System::Call 'kernel32::lstrlenW(p r3) i .r2'
      IntOp $2 $2 * 2
      IntOp $2 $2 + 2
      System::Call 'advapi32::RegSetValueExW(p r0, w "Path", i 0, i r1, p r3, i r2) i .r7'
      SendMessage 0xFFFF 0x1A 0 "STR:Environment" /TIMEOUT=1000
    ${EndIf}
    System::Call 'kernel32::GlobalFree(p r3)'
  ${EndIf}
  System::Call 'advapi32::RegCloseKey(p r0)'
FunctionEnd
!macroend
!insertmacro search_path ""
!insertmacro search_path "un."

; What the installer itself could not write, such as for want of room: it says so in a window alone.
Function .onInstFailed
  ${If} ${Silent}
  ${AndIfNot} ${FileExists} "$TEMP\mast-installer.txt"
    FileOpen $R9 "$TEMP\mast-installer.txt" w
    FileWriteUTF16LE /BOM $R9 "Files could not be written to $INSTDIR: close programs that use them, see that there is room on the disk, and run the installer again.$\r$\n"
    FileClose $R9
  ${EndIf}
FunctionEnd

Function .onInit
  !insertmacro prepare
  Delete "$TEMP\mast-installer.txt"
  ${IfNot} ${RunningX64}
    !insertmacro fail "MAST needs Windows for 64-bit processors."
  ${EndIf}
  ${IfNot} ${AtLeastWin10}
    !insertmacro fail "MAST needs Windows 10 or later. Please update Windows first."
  ${EndIf}
  UserInfo::GetAccountType
  Pop $0
  ${If} $0 != "Admin"
    !insertmacro fail "Installing MAST takes an administrator: right-click the installer, and choose Run as administrator."
  ${EndIf}
  ; One that is installed elsewhere is upgraded there.
  ReadRegStr $0 HKLM "${UNINSTALL}" "InstallLocation"
  ${If} $0 != ""
    StrCpy $INSTDIR $0
  ${EndIf}
FunctionEnd

; A file that is in use keeps its content under another name until it is not.
!macro put name
  ClearErrors
  Delete "$INSTDIR\${name}.old"
  ${If} ${FileExists} "$INSTDIR\${name}"
    Rename "$INSTDIR\${name}" "$INSTDIR\${name}.old"
  ${EndIf}
  ClearErrors
  File "${FILES}\${name}"
  ${If} ${Errors}
    Rename "$INSTDIR\${name}.old" "$INSTDIR\${name}"
    !insertmacro fail "$INSTDIR\${name} cannot be written: close programs that use it, see that there is room on the disk, and run the installer again."
  ${EndIf}
!macroend
!macro forget name
  Delete /REBOOTOK "$INSTDIR\${name}.old"
!macroend

Section
  !insertmacro prepare
  SetOverwrite try
  CreateDirectory "$INSTDIR"
  SetOutPath "$INSTDIR"
  ; First the way out, so that what is interrupted can be removed.
  WriteUninstaller "$INSTDIR\uninstall.exe"
  WriteRegStr HKLM "${UNINSTALL}" "DisplayName" "MAST"
  WriteRegStr HKLM "${UNINSTALL}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKLM "${UNINSTALL}" "Publisher" "The MAST developers"
  WriteRegStr HKLM "${UNINSTALL}" "DisplayIcon" "$INSTDIR\mast.ico"
  WriteRegStr HKLM "${UNINSTALL}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKLM "${UNINSTALL}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKLM "${UNINSTALL}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKLM "${UNINSTALL}" "EstimatedSize" ${SIZE}
  WriteRegDWORD HKLM "${UNINSTALL}" "NoModify" 1
  WriteRegDWORD HKLM "${UNINSTALL}" "NoRepair" 1

  !include "${FILES}\..\put.nsh"

  ; What the event log says of entries of MAST: their text is all in them.
  WriteRegExpandStr HKLM "${EVENTS}" "EventMessageFile" "%SystemRoot%\System32\EventCreate.exe"
  WriteRegDWORD HKLM "${EVENTS}" "TypesSupported" 7
  WriteRegDWORD HKLM "${EVENTS}" "CustomSource" 1

  ; The service. One that is there already is kept as its owner set it, and started anew if it ran: $R3 is 0 then.
  StrCpy $R3 0
  nsExec::ExecToStack '"$SYSDIR\sc.exe" query mastd'
  Pop $R1
  Pop $R2
  ${If} $R1 = 0
    nsExec::ExecToLog '"$SYSDIR\net.exe" stop mastd'
    Pop $R3
  ${Else}
    nsExec::ExecToLog '"$SYSDIR\sc.exe" create mastd type= own start= auto error= normal DisplayName= "MAST" binPath= "\"$INSTDIR\mastd.exe\" --service"'
    Pop $R2
    ${If} $R2 <> 0
      !insertmacro fail "The service could not be made (error $R2): restart Windows if MAST was just removed, and run the installer again."
    ${EndIf}
    nsExec::ExecToLog '"$SYSDIR\sc.exe" description mastd "Keeps connections alive while this machine moves between networks."'
    Pop $R2
  ${EndIf}
  nsExec::ExecToLog '"$SYSDIR\netsh.exe" advfirewall firewall delete rule name="${RULE}"'
  Pop $R2
  nsExec::ExecToLog '"$SYSDIR\netsh.exe" advfirewall firewall add rule name="${RULE}" dir=in action=allow protocol=udp program="$INSTDIR\mastd.exe" enable=yes'
  Pop $R2
  ${If} $R2 <> 0
    DetailPrint "Windows Defender Firewall was not told of MAST: peers may not reach this machine first."
  ${EndIf}
  ${If} $R3 = 0
    nsExec::ExecToLog '"$SYSDIR\net.exe" start mastd'
    Pop $R3
  ${EndIf}
  ${If} $R3 <> 0
    DetailPrint "The service does not run yet. Run `mast doctor` as an administrator: it says why."
  ${EndIf}
  !include "${FILES}\..\forget.nsh"

  CreateShortCut "$SMPROGRAMS\MAST.lnk" "$INSTDIR\${START}" "${START_WORDS}" "$INSTDIR\mast.ico" 0 SW_SHOWNORMAL "" "Keeps connections alive while this machine moves"
  !if "${APP}" != ""
    ; Links to invites.
    WriteRegStr HKLM "Software\Classes\mast" "" "URL:MAST invite"
    WriteRegStr HKLM "Software\Classes\mast" "URL Protocol" ""
    WriteRegStr HKLM "Software\Classes\mast\DefaultIcon" "" "$INSTDIR\mast.ico"
    WriteRegStr HKLM "Software\Classes\mast\shell\open\command" "" '"$INSTDIR\${APP}" "%1"'
    ; What draws the window: Windows 11 has it, and what Windows 10 has updates itself.
    ReadRegStr $R0 HKLM "${WEBVIEW32}" "pv"
    ${If} $R0 == ""
      ReadRegStr $R0 HKCU "${WEBVIEW}" "pv"
    ${EndIf}
    ${If} $R0 == ""
      DetailPrint "The window needs the Microsoft Edge WebView2 Runtime: install it from https://developer.microsoft.com/microsoft-edge/webview2. Connections are kept without it."
    ${EndIf}
  !endif
  StrCpy $R0 $INSTDIR
  Call SearchPath
SectionEnd

Function un.onInit
  !insertmacro prepare
  UserInfo::GetAccountType
  Pop $0
  ${If} $0 != "Admin"
    !insertmacro fail "Removing MAST takes an administrator."
  ${EndIf}
  ${GetParameters} $0
  ClearErrors
  ${GetOptions} $0 "/KEYS" $1
  StrCpy $KEYS 0
  ${IfNot} ${Errors}
    StrCpy $KEYS 1
  ${EndIf}
FunctionEnd

Section "Uninstall"
  !insertmacro prepare
  ${If} $KEYS = 0
  ${AndIfNot} ${Silent}
    MessageBox MB_YESNO|MB_ICONQUESTION|MB_DEFBUTTON2 "Remove the private key, peers and settings, too? Peers will not know this machine again." IDNO keep
    StrCpy $KEYS 1
    keep:
  ${EndIf}
  nsExec::ExecToLog '"$SYSDIR\net.exe" stop mastd'
  Pop $R2
  ; What the service left on the system if it did not end in order.
  nsExec::ExecToLog '"$INSTDIR\mastd.exe" --clear'
  Pop $R2
  nsExec::ExecToLog '"$SYSDIR\sc.exe" delete mastd'
  Pop $R2
  nsExec::ExecToLog '"$SYSDIR\netsh.exe" advfirewall firewall delete rule name="${RULE}"'
  Pop $R2
  Delete "$SMPROGRAMS\MAST.lnk"
  DeleteRegKey HKLM "Software\Classes\mast"
  DeleteRegKey HKLM "${EVENTS}"
  StrCpy $R0 $INSTDIR
  Call un.SearchPath
  ; Not the folder with all that is in it: it may be somebody's own.
  !include "${FILES}\..\remove.nsh"
  ${If} $KEYS = 1
    RMDir /r "${DATA}"
  ${EndIf}
  Delete /REBOOTOK "$INSTDIR\uninstall.exe"
  RMDir /REBOOTOK "$INSTDIR"
  DeleteRegKey HKLM "${UNINSTALL}"
SectionEnd
