-- A journal as version 4 of the tables wrote it: `sqlite3 journal.db .dump`, with the marks of the file.
PRAGMA application_id = 1667330145;
PRAGMA user_version = 4;
BEGIN TRANSACTION;
CREATE TABLE asset (
        asset_id TEXT PRIMARY KEY,
        recording_id TEXT NOT NULL REFERENCES recording,
        role TEXT NOT NULL,
        state TEXT NOT NULL,
        expected_bytes INTEGER NOT NULL,
        size_bytes INTEGER,
        blake3 TEXT,
        sha256 TEXT,
        receipt TEXT,
        reason TEXT NOT NULL,
        resume_to TEXT,
        same_as TEXT NOT NULL,
        alarm_at TEXT NOT NULL,
        late_at TEXT
    , held_at TEXT) STRICT, WITHOUT ROWID
    ;
INSERT INTO "asset" VALUES('a','rec-a','original','stored',1000,1000,'17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f','ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb','{"confirmed_at":"2026-07-06T09:00:00+00:00","digests":{"blake3":"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f","sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},"locked_until":"2027-01-02T09:00:00+00:00","object":"originals/a","size_bytes":1000,"store":"central"}','',NULL,'','2026-07-08T08:00:00.000000+00:00','2026-07-08T09:00:00.000000+00:00','2026-07-06T09:00:00.000000+00:00');
INSERT INTO "asset" VALUES('b','rec-b','original','held',1000,1000,'10e5cf3d3c8a4f9f3468c8cc58eea84892a22fdadbc1acb22410190044c1d553','3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d',NULL,'',NULL,'','2026-07-06T18:00:00.000000+00:00','2026-07-06T19:00:00.000000+00:00','2026-07-06T09:00:00.000000+00:00');
INSERT INTO "asset" VALUES('c','rec-c','original','stuck',1000,1000,'ea7aa1fc9efdbe106dbb70369a75e9671fa29d52bd55536711bf197477b8f021','2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6',NULL,'the store refuses','held','','2026-07-07T04:00:00.000000+00:00','2026-07-07T05:00:00.000000+00:00','2026-07-06T09:00:00.000000+00:00');
INSERT INTO "asset" VALUES('d','rec-d','original','matched',1000,1000,'10e5cf3d3c8a4f9f3468c8cc58eea84892a22fdadbc1acb22410190044c1d553','3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d',NULL,'',NULL,'b','2026-07-08T08:00:00.000000+00:00','2026-07-08T09:00:00.000000+00:00',NULL);
INSERT INTO "asset" VALUES('e','rec-e','original','wanted',1000,NULL,NULL,NULL,NULL,'',NULL,'','2026-07-08T08:00:00.000000+00:00','2026-07-08T09:00:00.000000+00:00',NULL);
INSERT INTO "asset" VALUES('x','rec-x','original','held',1000,1000,'3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5','2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881',NULL,'',NULL,'','2026-07-08T08:00:00.000000+00:00','2026-07-08T09:00:00.000000+00:00','2026-07-06T09:00:00.000000+00:00');
CREATE TABLE attempt (
        asset_id TEXT PRIMARY KEY,
        begun INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        next_at TEXT NOT NULL,
        last_error TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    ;
CREATE TABLE block (
        asset_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        blake3 TEXT NOT NULL,
        holes TEXT NOT NULL,
        PRIMARY KEY (asset_id, number)
    ) STRICT, WITHOUT ROWID
    ;
CREATE TABLE clip (
        docking_id TEXT NOT NULL REFERENCES docking (docking_id),
        number INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        asset_id TEXT REFERENCES asset,
        likeness BLOB NOT NULL,
        bytes INTEGER NOT NULL,
        mode TEXT NOT NULL,
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,
        alarm_at TEXT NOT NULL,
        PRIMARY KEY (docking_id, number)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "clip" VALUES('d1',1,2,'a',X'0B3CD68A6C4ADF46F9DCE74CE58A8130',1000,'pull','pulled','','2026-07-08T08:00:00.000000+00:00');
INSERT INTO "clip" VALUES('d1',2,3,'b',X'A19A0D7A6E266EC09B13D5AB8F7060E2',1000,'pull','pulled','','2026-07-08T08:00:00.000000+00:00');
INSERT INTO "clip" VALUES('d1',3,4,'c',X'AF5BBAA17090C583609A2362EC991054',1000,'pull','pulled','','2026-07-07T04:00:00.000000+00:00');
INSERT INTO "clip" VALUES('d1',4,5,'d',X'F801CB06B5A68355B42158C1B7D1FA3B',1000,'pull','already_held','','2026-07-08T08:00:00.000000+00:00');
INSERT INTO "clip" VALUES('d2',1,16,'e',X'0B3CD68A6C4ADF46F9DCE74CE58A8130',1000,'pull','pending','','2026-07-08T08:00:00.000000+00:00');
CREATE TABLE counter (
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (scope, name)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "counter" VALUES('asset','held',2,2000);
INSERT INTO "counter" VALUES('asset','matched',1,1000);
INSERT INTO "counter" VALUES('asset','stored',1,1000);
INSERT INTO "counter" VALUES('asset','stuck',1,1000);
INSERT INTO "counter" VALUES('asset','wanted',1,1000);
INSERT INTO "counter" VALUES('clip','already_held',1,1000);
INSERT INTO "counter" VALUES('clip','left',0,0);
INSERT INTO "counter" VALUES('clip','pending',1,1000);
INSERT INTO "counter" VALUES('clip','pulled',3,3000);
INSERT INTO "counter" VALUES('d1','already_held',1,1000);
INSERT INTO "counter" VALUES('d1','left',0,0);
INSERT INTO "counter" VALUES('d1','pending',0,0);
INSERT INTO "counter" VALUES('d1','pulled',3,3000);
INSERT INTO "counter" VALUES('d2','pending',1,1000);
CREATE TABLE custody (
        recorder_id TEXT PRIMARY KEY,
        custody TEXT NOT NULL,
        issued_at TEXT NOT NULL,
        changed_at TEXT NOT NULL,
        unseen_since TEXT,
        back_by TEXT
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "custody" VALUES('DSJ-001','out','2026-07-06T09:00:00.000000+00:00','2026-07-06T09:00:00.000000+00:00','2026-07-06T09:00:00.000000+00:00',NULL);
CREATE TABLE device (
        device_id TEXT PRIMARY KEY,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "device" VALUES('device',1,15);
CREATE TABLE docking (
        seq INTEGER PRIMARY KEY,
        docking_id TEXT NOT NULL UNIQUE,
        device_id TEXT NOT NULL REFERENCES device,
        opened_at TEXT NOT NULL,
        listed_at TEXT,
        metadata_blake3 TEXT NOT NULL DEFAULT '',
        closed_at TEXT,
        reason TEXT NOT NULL DEFAULT ''
    ) STRICT
    ;
INSERT INTO "docking" VALUES(1,'d1','device','2026-07-06T09:00:00.000000+00:00','2026-07-06T09:00:00.000000+00:00','abababababababababababababababababababababababababababababababab','2026-07-06T09:00:00.000000+00:00','complete');
INSERT INTO "docking" VALUES(15,'d2','device','2026-07-06T09:00:00.000000+00:00','2026-07-06T09:00:00.000000+00:00','abababababababababababababababababababababababababababababababab',NULL,'');
CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT
    ;
INSERT INTO "event" VALUES(1,'2026-07-06T09:00:00.000000+00:00','docking_opened','d1','{"device":{"driver":"mass_storage","filesystem_ids":["1A2B-3C4D"],"label":"\u6267\u6cd5\u4eea","port":"1-2","product":"DSJ-V8","serial":"058F63666485","size_bytes":32000000000,"vendor":"EXAMPLE"},"device_id":"device","docking_id":"d1","slot":"slot-1"}',X'F5E1699319FAE0E7847FCD718A247BF8ED82E322AC0F1EBC1B215E116E72C989');
INSERT INTO "event" VALUES(2,'2026-07-06T09:00:00.000000+00:00','clip_seen','a','{"asset":{"asset_id":"a","expected_bytes":1000,"recording_id":"rec-a","role":"original","state":"wanted"},"asset_id":"a","clip":{"created":{"local":"2026-07-06T08:00:00"},"entry_offset":4128,"flags":["archive"],"modified":{"local":"2026-07-06T08:00:00"},"number":1,"path":"DCIM/100/\u89c6\u989100001.MP4","raw_name":"4400430049004d002f003100300030002f00c6899198300030003000300031002e004d0050003400","readable_bytes":1000,"size_bytes":1000},"docking_id":"d1","mode":"pull","recording":{"captured_earliest":null,"captured_latest":"2026-07-06T09:00:00+00:00","clock_trust":"unmeasured","deadline":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"device_id":"device","medium":"video","recording_id":"rec-a"}}',X'24CFAB49CDDA907A81E42688D5345B988B8D62C442F4A8FE28A0A4AE63B05F65');
INSERT INTO "event" VALUES(3,'2026-07-06T09:00:00.000000+00:00','clip_seen','b','{"asset":{"asset_id":"b","expected_bytes":1000,"recording_id":"rec-b","role":"original","state":"wanted"},"asset_id":"b","clip":{"created":{"local":"2026-07-06T08:00:00"},"entry_offset":4160,"flags":["archive"],"modified":{"local":"2026-07-06T08:00:00"},"number":2,"path":"DCIM/100/\u89c6\u989100002.MP4","raw_name":"4400430049004d002f003100300030002f00c6899198300030003000300032002e004d0050003400","readable_bytes":1000,"size_bytes":1000},"docking_id":"d1","mode":"pull","recording":{"captured_earliest":null,"captured_latest":"2026-07-06T09:00:00+00:00","clock_trust":"unmeasured","deadline":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"device_id":"device","medium":"video","recording_id":"rec-b"}}',X'107D3DD16A6E5F8BDA21FBFD12D2036EC9C340EEB4BB271B0CCB4AEB2B5EBD33');
INSERT INTO "event" VALUES(4,'2026-07-06T09:00:00.000000+00:00','clip_seen','c','{"asset":{"asset_id":"c","expected_bytes":1000,"recording_id":"rec-c","role":"original","state":"wanted"},"asset_id":"c","clip":{"created":{"local":"2026-07-06T08:00:00"},"entry_offset":4192,"flags":["archive"],"modified":{"local":"2026-07-06T08:00:00"},"number":3,"path":"DCIM/100/\u89c6\u989100003.MP4","raw_name":"4400430049004d002f003100300030002f00c6899198300030003000300033002e004d0050003400","readable_bytes":1000,"size_bytes":1000},"docking_id":"d1","mode":"pull","recording":{"captured_earliest":null,"captured_latest":"2026-07-06T09:00:00+00:00","clock_trust":"unmeasured","deadline":{"alarm_at":"2026-07-07T04:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-07T05:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"device_id":"device","medium":"video","recording_id":"rec-c"}}',X'DE6E9C5C817132905CF5B18C87B6F125FF6935FAF24A285D999483CCFF538650');
INSERT INTO "event" VALUES(5,'2026-07-06T09:00:00.000000+00:00','clip_seen','d','{"asset":{"asset_id":"d","expected_bytes":1000,"recording_id":"rec-d","role":"original","state":"wanted"},"asset_id":"d","clip":{"created":{"local":"2026-07-06T08:00:00"},"entry_offset":4224,"flags":["archive"],"modified":{"local":"2026-07-06T08:00:00"},"number":4,"path":"DCIM/100/\u89c6\u989100004.MP4","raw_name":"4400430049004d002f003100300030002f00c6899198300030003000300034002e004d0050003400","readable_bytes":1000,"size_bytes":1000},"docking_id":"d1","mode":"pull","recording":{"captured_earliest":null,"captured_latest":"2026-07-06T09:00:00+00:00","clock_trust":"unmeasured","deadline":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"device_id":"device","medium":"video","recording_id":"rec-d"}}',X'059397724E24697003FB2B66AF97DA85856E4888986636C25B2689F83A013503');
INSERT INTO "event" VALUES(6,'2026-07-06T09:00:00.000000+00:00','docking_listed','d1','{"docking_id":"d1","metadata_blake3":"abababababababababababababababababababababababababababababababab","seen":4}',X'29D50DAC61212D5FC30A4AC08D79EBF553118829117254443D44B517ED05DC61');
INSERT INTO "event" VALUES(7,'2026-07-06T09:00:00.000000+00:00','acquired','a','{"asset_id":"a","docking_id":"d1","event":{"acquired":{"held":{"asset_id":"a","digests":{"blake3":"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f","sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},"path":"/vault/17/17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f","sealed":true,"size_bytes":1000}}},"number":1,"outcome":"pulled"}',X'221FC7B082E5889317DC0BBC3F831390F3F0AF6139FBE208073A376AC50CFE58');
INSERT INTO "event" VALUES(8,'2026-07-06T09:00:00.000000+00:00','acquired','b','{"asset_id":"b","docking_id":"d1","event":{"acquired":{"held":{"asset_id":"b","digests":{"blake3":"10e5cf3d3c8a4f9f3468c8cc58eea84892a22fdadbc1acb22410190044c1d553","sha256":"3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"},"path":"/vault/10/10e5cf3d3c8a4f9f3468c8cc58eea84892a22fdadbc1acb22410190044c1d553","sealed":true,"size_bytes":1000}}},"number":2,"outcome":"pulled"}',X'6CC02ACCEB08E0687CF46D475C28A2CF8216E68B358607D779DA2703809CD1C6');
INSERT INTO "event" VALUES(9,'2026-07-06T09:00:00.000000+00:00','acquired','c','{"asset_id":"c","docking_id":"d1","event":{"acquired":{"held":{"asset_id":"c","digests":{"blake3":"ea7aa1fc9efdbe106dbb70369a75e9671fa29d52bd55536711bf197477b8f021","sha256":"2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6"},"path":"/vault/ea/ea7aa1fc9efdbe106dbb70369a75e9671fa29d52bd55536711bf197477b8f021","sealed":true,"size_bytes":1000}}},"number":3,"outcome":"pulled"}',X'5600CCFBB34565EB7B315769CCD80920FC75480D8E583E06437EE529FF4AEEB5');
INSERT INTO "event" VALUES(10,'2026-07-06T09:00:00.000000+00:00','matched','d','{"asset_id":"d","docking_id":"d1","event":{"matched":{"digests":{"blake3":"10e5cf3d3c8a4f9f3468c8cc58eea84892a22fdadbc1acb22410190044c1d553","sha256":"3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"},"same_as":"b"}},"number":4,"outcome":"already_held"}',X'77209D8872D734BE096F84AE4E981BB2C9483EBF5A9858A7D5DF4BFE214878DD');
INSERT INTO "event" VALUES(11,'2026-07-06T09:00:00.000000+00:00','confirmed','a','{"asset_id":"a","event":{"confirmed":{"receipt":{"confirmed_at":"2026-07-06T09:00:00+00:00","digests":{"blake3":"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f","sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},"locked_until":"2027-01-02T09:00:00+00:00","object":"originals/a","size_bytes":1000,"store":"central"}}}}',X'12A2A9D9F0D633FE63847FA86A3DAF3419BC5C7DA75EE43FCB479DEB1AD4659E');
INSERT INTO "event" VALUES(12,'2026-07-06T09:00:00.000000+00:00','blocked','c','{"asset_id":"c","event":{"blocked":{"reason":"the store refuses"}}}',X'DB91C40C6A8BAEC4A30B6DD523BF30589DBDD63D15550561A716F24C3F741A65');
INSERT INTO "event" VALUES(13,'2026-07-06T09:00:00.000000+00:00','docking_closed','d1','{"docking_id":"d1","reason":"complete"}',X'E2383C5B3B91792E5BD496AED14A0EC103B6D585E315F7F59C626B737C05CC71');
INSERT INTO "event" VALUES(14,'2026-07-06T09:00:00.000000+00:00','adopted','x','{"asset":{"asset_id":"x","expected_bytes":1000,"recording_id":"rec-x","role":"original","state":"wanted"},"held":{"asset_id":"x","digests":{"blake3":"3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5","sha256":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},"path":"/vault/3a/3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b5","sealed":true,"size_bytes":1000},"recording":{"captured_earliest":null,"captured_latest":"2026-07-06T09:00:00+00:00","clock_trust":"unmeasured","deadline":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"device_id":"device","medium":"video","recording_id":"rec-x"}}',X'26A43D71C4A0B2179FB8BFBC7644F978637E4DA0817E0F5567D9B6584B1CFB7F');
INSERT INTO "event" VALUES(15,'2026-07-06T09:00:00.000000+00:00','docking_opened','d2','{"device":{"driver":"mass_storage","filesystem_ids":["1A2B-3C4D"],"label":"\u6267\u6cd5\u4eea","port":"1-2","product":"DSJ-V8","serial":"058F63666485","size_bytes":32000000000,"vendor":"EXAMPLE"},"device_id":"device","docking_id":"d2","slot":"slot-1"}',X'A6427BFC70DE9B41111E59AA43938D5216AFBFFDC2F3AB5CE0E66C359B70CB73');
INSERT INTO "event" VALUES(16,'2026-07-06T09:00:00.000000+00:00','clip_seen','e','{"asset":{"asset_id":"e","expected_bytes":1000,"recording_id":"rec-e","role":"original","state":"wanted"},"asset_id":"e","clip":{"created":{"local":"2026-07-06T08:00:00"},"entry_offset":4128,"flags":["archive"],"modified":{"local":"2026-07-06T08:00:00"},"number":1,"path":"DCIM/100/\u89c6\u989100001.MP4","raw_name":"4400430049004d002f003100300030002f00c6899198300030003000300031002e004d0050003400","readable_bytes":1000,"size_bytes":1000},"docking_id":"d2","mode":"pull","recording":{"captured_earliest":null,"captured_latest":"2026-07-06T09:00:00+00:00","clock_trust":"unmeasured","deadline":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"device_id":"device","medium":"video","recording_id":"rec-e"}}',X'81C2B022EBF03658374177AB79DC322DC0D1008289A8F930A71B72CB806C1A3C');
INSERT INTO "event" VALUES(17,'2026-07-06T09:00:00.000000+00:00','docking_listed','d2','{"docking_id":"d2","metadata_blake3":"abababababababababababababababababababababababababababababababab","seen":1}',X'9CEBA7CB2E91AEA774F986F60D8431BC867097229B6365C9FE0CBB65AF5C30C1');
INSERT INTO "event" VALUES(18,'2026-07-06T09:00:00.000000+00:00','device_issued','DSJ-001','{"at":"2026-07-06T09:00:00+00:00","officer":"ZF-17","recorder_id":"DSJ-001","who":"keeper","why":"inspection"}',X'F9B5840D4A78EB79DA70719E7D95347F2974A8C942D29ED49D6C3F96957B75F4');
INSERT INTO "event" VALUES(19,'2026-07-06T09:00:00.000000+00:00','incident','','{"detail":{"version":"0.3"},"kind":"started"}',X'73381BE945A779976EDE6127B70A576880C2899C5ED56954743A98C88CA4B109');
INSERT INTO "event" VALUES(20,'2026-07-06T09:00:00.000000+00:00','time_stated','b','{"asset_id":"b","new":{"alarm_at":"2026-07-06T18:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-06T19:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"old":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"stated":{"made_at":"2026-07-06T09:00:00+00:00","who":"officer","why":"clock"}}',X'A2D463CFA1F62806247CD03F448BDDC85F99C40B59B0AF671F4B8B249F19F81E');
CREATE TABLE note (
        subject TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (subject, name)
    ) STRICT, WITHOUT ROWID
    ;
CREATE TABLE recording (
        recording_id TEXT PRIMARY KEY,
        device_id TEXT NOT NULL,
        seq INTEGER NOT NULL
    , deadline TEXT NOT NULL DEFAULT '', stated TEXT, declared TEXT) STRICT, WITHOUT ROWID
    ;
INSERT INTO "recording" VALUES('rec-a','device',2,'{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"}',NULL,NULL);
INSERT INTO "recording" VALUES('rec-b','device',3,'{"alarm_at":"2026-07-06T18:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-06T19:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"}','{"made_at":"2026-07-06T09:00:00+00:00","who":"officer","why":"clock"}',NULL);
INSERT INTO "recording" VALUES('rec-c','device',4,'{"alarm_at":"2026-07-07T04:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-07T05:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"}',NULL,NULL);
INSERT INTO "recording" VALUES('rec-d','device',5,'{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"}',NULL,NULL);
INSERT INTO "recording" VALUES('rec-e','device',16,'{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"}',NULL,NULL);
INSERT INTO "recording" VALUES('rec-x','device',14,'{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"}',NULL,NULL);
CREATE TABLE settled (
        asset_id TEXT PRIMARY KEY,
        size_bytes INTEGER NOT NULL,
        blake3 TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        holes TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    ;
CREATE INDEX event_by_subject ON event (subject, seq) WHERE subject <> '';
CREATE INDEX event_incident ON event (seq) WHERE kind = 'incident';
CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
CREATE TRIGGER event_comes_next BEFORE INSERT ON event
    WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM event)
    BEGIN SELECT RAISE(ABORT, 'events follow each other without gap'); END;
CREATE INDEX docking_open ON docking (seq) WHERE closed_at IS NULL;
CREATE INDEX docking_by_device ON docking (device_id, seq);
CREATE INDEX asset_by_recording ON asset (recording_id);
CREATE INDEX asset_by_state ON asset (state, alarm_at);
CREATE INDEX asset_by_blake3 ON asset (blake3) WHERE blake3 IS NOT NULL;
CREATE INDEX asset_unsafe ON asset (alarm_at) WHERE receipt IS NULL AND state <> 'matched';
CREATE INDEX asset_late ON asset (late_at)
    WHERE receipt IS NULL AND state <> 'matched' AND late_at IS NOT NULL
    ;
CREATE INDEX clip_pending ON clip (docking_id, mode, alarm_at, number) WHERE outcome = 'pending';
CREATE INDEX clip_by_likeness ON clip (likeness, seq) WHERE asset_id IS NOT NULL;
CREATE INDEX clip_by_asset ON clip (asset_id) WHERE asset_id IS NOT NULL;
CREATE INDEX settled_by_blake3 ON settled (blake3);
CREATE INDEX asset_same ON asset (same_as) WHERE same_as <> '';
COMMIT;
